"""The merge engine: adapters in, one adapter out, a module or two in memory at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from prefdelta.adapters import SERVABLE_RANKS, Adapter, AdapterInfo, write_files
from prefdelta.adapters.writer import DTYPE_NAMES
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.outputs import staged_folder
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.threads import one_thread
from prefdelta.merging.inputs import Inputs, kept_copies, prepare, updates_of
from prefdelta.merging.registry import Options, configured
from prefdelta.merging.report import MergeReport, model_card
from prefdelta.merging.scale import Calibration, Scale, Stored
from prefdelta.merging.statistics import Measured, MergeStatistics, Result, compared
from prefdelta.recipe import ModelRef, Sampling, Search

REPORT_NAME = "prefdelta_merge.json"

_WORKERS = 2  # modules merged at once, each on one thread; memory grows with it
_FEW = 4  # adapters; the products of all pairs of them cost no more than what else there is to compute
_AHEAD = 4  # modules under way: while a large one is waited for, small ones go on; merged ones take little memory


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
    """Merge LoRA adapters into a new one; their base model is needed only where it chooses the scale.

    The output folder holds an adapter that PEFT loads, ``prefdelta_merge.json`` (the report that is returned) and a
    model card. It appears whole or not at all. The same inputs give the same bytes, whatever the number of threads.

    With ``scale="agreement"`` the base answers ``prompts`` twice with every λ that is tried, and the λ at which answers
    depend most on the question is taken; known answers are not read. With ``scale="pairs"`` it reads preference pairs
    and generates none. λ is searched on a log axis around the one at which the merge is as long as its mean member.
    That folder also holds ``prefdelta_tuning.json``: every λ with its score, which are level with the choice, and
    the warnings. A call that was interrupted goes on where it stopped.

    Args:
        adapters: folders of PEFT LoRA adapters of one base model; their order is the order of ``weights``.
        output: the folder to make.
        method: a name of :data:`prefdelta.merging.METHODS`.
        weights: one per adapter, all 1 if left out; the method says what they mean.
        scale: λ, a factor on the merged update; ``"norm-matched"`` gives every module the mean norm of the updates,
            ``"projection"`` the size at which it best holds each update's own component. The norms are reported.
            ``"agreement"`` and ``"pairs"`` have the base choose it; ``"stored"`` reads one λ off what the adapters'
            trainings measured, see :func:`prefdelta.merging.stored.stored_scale`.
        options: the method's own options.
        dtype: float64, float32, bfloat16 or float16; the widest of the inputs if left out.
        rank: store every module at this rank, by the best approximation or by padding with zeros; ``"servable"``
            takes the least rank that vLLM serves; ``None`` keeps the rank that the method gives.
        extra_weights: what to do with fully trained tensors that lie beside the factors (classification heads and
            other ``modules_to_save``). Heads of different tasks have no common meaning, so they are refused, or left
            out by ``"drop"``; the output then names no task type, because PEFT would look for a head.
        compare: whether to compare the result with the plain average, which takes the products of all pairs of
            adapters. If left out, it is where there are few adapters or the method computes these products anyway. Not
            for a scale that the base chooses.
        overwrite: replace a folder that is there already.
        base: the adapters' base model, to choose the scale.
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
        progress: called with (modules done, modules in all), or where the base chooses the scale with evaluations.

    Raises:
        PrefdeltaError: an input cannot be read, inputs do not fit together, an argument is wrong, what the choice of
            the scale needs is missing, or the output cannot be written. Nothing is left behind.
    """
    target = Path(output)
    if scale == "agreement" or scale == "pairs":
        needed = "--prompts" if scale == "agreement" else "--pairs"
        if base is None or not (prompts if scale == "agreement" else pairs):
            raise PrefdeltaError(f"--scale {scale} asks the base model; give --base and {needed}.")
        from prefdelta.merging.tuning.adapters import tune_adapters  # here, as other merges need no language model
        from prefdelta.merging.tuning.space import Space

        _, checked = configured(method, options, len(adapters))
        given = checked.model_dump(exclude_unset=True)
        factors = None if weights is None else tuple(weights)
        tune_adapters(
            adapters,
            target,
            base=ModelRef(path=base) if isinstance(base, str) else base,
            items=prompts,
            pairs=pairs,
            by=scale,
            beta=beta,
            space=Space((method,), "auto", budget=budget, compare=False, weights=factors),
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
        return MergeReport.model_validate_json((target / REPORT_NAME).read_text(encoding="utf-8"))
    if base is not None or prompts or pairs is not None:
        raise PrefdeltaError("a base, prompts and pairs choose the scale; give --scale agreement or --scale pairs.")
    if scale == "stored":
        from prefdelta.merging.stored import stored_scale  # here, as it makes the merge itself

        opened = [Adapter.open(path) for path in adapters]
        scale = stored_scale(opened, method=method, weights=weights, options=options, extra_weights=extra_weights)
    inputs = prepare(
        adapters,
        target,
        method=method,
        options=options,
        weights=weights,
        scale=scale,
        rank=rank,
        extra_weights=extra_weights,
    )
    copies = kept_copies(inputs.adapters) if extra_weights == "refuse" else {}
    stored = stored_dtype(dtype, inputs.adapters)
    info = merged_info(inputs.adapters)
    statistics = MergeStatistics(inputs)
    stream = merged_modules(inputs, statistics, dtype=stored, rank=rank, compare=compare, progress=progress)
    with (
        staged_folder(target, overwrite=overwrite) as folder,
        one_thread(),
        ThreadPoolExecutor(1) as beside,  # hashing reads all inputs once more, best while the merge waits for the disk
    ):
        hashing = [beside.submit(getattr, adapter, "fingerprint") for adapter in inputs.adapters]
        ranks = write_files(folder, stream, like=info, dtype=stored, rank=rank, names=inputs.modules, copies=copies)
        for hashed in hashing:
            hashed.result()
        report = statistics.report(str(stored).removeprefix("torch."), rank=rank, stored_ranks=tuple(ranks.values()))
        (folder / REPORT_NAME).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(report, info.base_model), encoding="utf-8")
    return report


def merged_modules(
    inputs: Inputs,
    statistics: MergeStatistics,
    *,
    dtype: torch.dtype,
    rank: int | Literal["servable"] | None = None,
    compare: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, LowRank]]:
    """Merge module by module, a few at a time, as :func:`merge` describes; the updates have the type of ``dtype``.

    Results come, and are counted in ``statistics``, in the modules' order.
    """
    pairs = len(inputs.adapters) <= _FEW if compare is None else compare
    limit = SERVABLE_RANKS[-1] if rank == "servable" else rank

    def one(module: str) -> tuple[Measured, LowRank]:
        """Load, merge, cut, scale. Pure but for reading, so that it may run on any thread."""
        present, deltas = updates_of(inputs.adapters, module)
        if pairs:
            deltas.multiply_pairs()
        merged = inputs.method.run(deltas, weights=inputs.weights, options=inputs.options, module=module)
        delta, kept = merged.delta, merged.notes.get("kept_energy", 1.0)
        if limit is not None and delta.rank > limit:
            delta, left = delta.truncated(limit)
            kept *= left
        inner = deltas.inner(delta).tolist()
        result = Result(module, delta.shape, delta.rank, delta.norm(), inner, kept, merged.notes)
        measured = compared(inputs, result, present, deltas)
        return measured, delta.scaled(measured.entry.scale).balanced().to(dtype)

    waiting: deque[Future[tuple[Measured, LowRank]]] = deque()
    left = iter(inputs.modules)
    workers = min(_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting.extend(pool.submit(one, module) for module in islice(left, _AHEAD))
        for count in range(1, len(inputs.modules) + 1):
            measured, delta = waiting.popleft().result()
            statistics.add(measured)
            yield measured.entry.module, delta
            waiting.extend(pool.submit(one, module) for module in islice(left, 1))
            if progress is not None:
                progress(count, len(inputs.modules))


def merged_info(adapters: Sequence[Adapter]) -> AdapterInfo:
    """What the merge of these adapters says of itself: the first base model that is named, and a task type that all
    agree on, unless a task's head was left out.
    """
    infos = [adapter.info for adapter in adapters]
    tasks = {None if adapter.extra else adapter.info.task_type for adapter in adapters}
    return AdapterInfo(
        base_model=next((info.base_model for info in infos if info.base_model), None),
        task_type=tasks.pop() if len(tasks) == 1 else None,
        fan_in_fan_out=any(info.fan_in_fan_out for info in infos),  # of the base's class; PEFT corrects a wrong one
        storage={layer: stored for info in infos for layer, stored in info.storage.items()},
        target_parameters=next((info.target_parameters for info in infos if info.target_parameters), ()),
    )


def stored_dtype(name: str | None, adapters: Sequence[Adapter]) -> torch.dtype:
    """The type to store a merge in: the one of that name, else the widest of the adapters'.

    Raises:
        PrefdeltaError: no type of that name can be stored.
    """
    if name is None:
        widest = adapters[0].dtype
        for adapter in adapters[1:]:
            widest = torch.promote_types(widest, adapter.dtype)
        return widest
    known = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPE_NAMES}
    if name not in known:
        raise PrefdeltaError(f"unknown dtype {name!r}; {did_you_mean(name, known)}")
    return known[name]
