"""``merge`` of the public API: the engine's, and merges whose scale is chosen by a base model or by trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from prefdelta.adapters import Adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.reference import ModelRef
from prefdelta.merging import engine
from prefdelta.merging.registry import Options, configured
from prefdelta.merging.report import MergeReport
from prefdelta.merging.scale import Calibration, Scale, Stored

if TYPE_CHECKING:
    from prefdelta.recipe import Sampling, Search


def merge(
    adapters: Sequence[Path | str],
    output: Path | str,
    *,
    method: str,
    weights: Sequence[float] | None = None,
    scale: Scale | Calibration | Stored = 1.0,
    options: Mapping[str, Any] | Options | None = None,
    dtype: str | None = None,
    rank: int | Literal["servable"] | None = None,
    extra_weights: Literal["refuse", "drop"] = "refuse",
    compare: bool | None = None,
    overwrite: bool = False,
    base: ModelRef | str | None = None,
    prompts: Sequence[str] = (),
    pairs: Path | str | None = None,
    scorer: str = "exact-match",
    count: int = 200,
    budget: int = 9,
    beta: float = 0.5,
    sampling: Sampling | None = None,
    corpus: Search | None = None,
    seed: int = 0,
    told: Callable[[int, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Merge LoRA adapters into a new one: :func:`prefdelta.merging.engine.merge`, and three more ways to choose λ.

    With ``scale="agreement"`` the base answers ``prompts`` twice with every λ that is tried, and the λ at which answers
    depend most on the question is taken; known answers are not read. With ``scale="pairs"`` it reads preference pairs
    and generates none. λ is searched on a log axis around the one at which the merge is as long as its mean member.
    That folder also holds ``prefdelta_tuning.json``: every λ with its score, which are level with the choice, and
    the warnings. A call that was interrupted goes on where it stopped.

    With ``scale="stored"`` one λ is read off what the adapters' trainings measured, see
    :func:`prefdelta.merging.stored.stored_scale`; the report has the number.

    Args:
        adapters: as in the engine, and so are ``output``, ``method``, ``weights``, ``options``, ``dtype``, ``rank``,
            ``extra_weights`` and ``overwrite``.
        scale: as in the engine, or ``agreement``, ``pairs`` or ``stored``.
        compare: as in the engine; not for a calibrated scale.
        base: the adapters' base model, for a calibrated scale.
        prompts: ``micro:TASK`` (its validation items) or files of items, whole, for ``agreement``.
        pairs: a file of preference pairs, for ``pairs``.
        scorer: how answers are parsed, for ``agreement``.
        count: at most how many items of each source, or how many pairs.
        budget: at most how many λ are tried.
        beta: β of the loss on pairs.
        sampling: how answers are drawn; at temperature 1 if left out.
        corpus: what the model may search.
        seed: of the random numbers of the answers.
        told: called before anything is asked with (the most evaluations there can be, answers or sequences of each).
        progress: called with (modules done, modules in all), or for a calibrated scale with evaluations.

    Raises:
        PrefdeltaError: as the engine and :func:`prefdelta.merging.tuning.tune_adapters`, or what the choice of the
            scale needs is missing.
    """
    if scale not in get_args(Calibration):
        if base is not None or prompts or pairs is not None:
            raise PrefdeltaError("a base, prompts and pairs choose the scale; give --scale agreement or --scale pairs.")
        if scale == "stored":
            from prefdelta.merging.stored import stored_scale  # here, as other merges need it not

            scale = stored_scale(
                [Adapter.open(path) for path in adapters],
                method=method,
                weights=weights,
                options=options,
                extra_weights=extra_weights,
            )
        return engine.merge(
            adapters,
            output,
            method=method,
            weights=weights,
            scale=scale,  # type: ignore[arg-type]
            options=options,
            dtype=dtype,
            rank=rank,
            extra_weights=extra_weights,
            compare=compare,
            overwrite=overwrite,
            progress=progress,
        )
    needed = "--prompts" if scale == "agreement" else "--pairs"
    if base is None or not (prompts if scale == "agreement" else pairs):
        raise PrefdeltaError(f"--scale {scale} asks the base model; give --base and {needed}.")
    from prefdelta.merging.tuning.adapters import tune_adapters  # here, as other merges need no language model
    from prefdelta.merging.tuning.space import Space
    from prefdelta.recipe import Sampling

    _, checked = configured(method, options, len(adapters))
    given = checked.model_dump(exclude_unset=True)
    tune_adapters(
        adapters,
        output,
        base=ModelRef(path=base) if isinstance(base, str) else base,
        items=prompts,
        pairs=pairs,
        by="agreement" if scale == "agreement" else "pairs",
        beta=beta,
        space=Space(
            (method,), "auto", budget=budget, compare=False, weights=None if weights is None else tuple(weights)
        ),
        split="validation" if all(source.startswith("micro:") for source in prompts) else "all",
        scorer=scorer,
        count=count,
        sampling=sampling or Sampling(temperature=1.0),
        corpus=corpus,
        options={method: given} if given else None,
        seed=seed,
        extra_weights=extra_weights,
        dtype=dtype,
        rank=rank,
        overwrite=overwrite,
        told=told,
        progress=progress,
    )
    return MergeReport.model_validate_json((Path(output) / engine.REPORT_NAME).read_text(encoding="utf-8"))
