"""Tuning the merge of adapters on disk (scale, method, members, weights) on validation items, and writing the best."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from prefdelta.adapters import Adapter
from prefdelta.agent import Environment
from prefdelta.core.files import write_json
from prefdelta.core.manifests import ROWS
from prefdelta.core.model_files import fingerprint, local_folder
from prefdelta.core.models import load
from prefdelta.core.names import public_name, tell_apart
from prefdelta.core.outputs import check_place, staged_folder
from prefdelta.core.records import digest
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.doubts import doubts
from prefdelta.merging.engine import merge, stored_dtype
from prefdelta.merging.inputs import check_arguments, common_modules, refuse_base_copies
from prefdelta.merging.tuning.candidate import Candidate
from prefdelta.merging.tuning.choice import Choice, level_range
from prefdelta.merging.tuning.guard import divergence, guard_of, own_rows, shared_with_base
from prefdelta.merging.tuning.items import Split, questioning
from prefdelta.merging.tuning.objectives import Measured
from prefdelta.merging.tuning.record import RECORD_NAME, LeaveOneOut, Part, Source, Tried, TuningRecord
from prefdelta.merging.tuning.space import Space
from prefdelta.merging.tuning.trials import Found, tune
from prefdelta.merging.tuning.validation import Validation
from prefdelta.recipe import By, ModelRef, Sampling, Search


def tune_adapters(
    adapters: Sequence[Path | str],
    output: Path | str,
    *,
    base: ModelRef,
    items: Sequence[str] = (),
    space: Space,
    by: By = "labels",
    pairs: Path | str | None = None,
    beta: float = 0.5,
    split: Split = "validation",
    scorer: str = "exact-match",
    count: int = 200,
    sampling: Sampling | None = None,
    corpus: Search | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    extra_weights: Literal["refuse", "drop"] = "refuse",
    dtype: str | None = None,
    rank: int | Literal["servable"] | None = None,
    overwrite: bool = False,
    told: Callable[[int, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TuningRecord:
    """Find the merge that does best by one of three measures, and write it with :func:`prefdelta.merging.merge`.

    The base is loaded once; every candidate is merged in memory, put on the base and taken off again. The output
    folder is that of ``merge`` and holds ``prefdelta_tuning.json`` (the record that is returned) beside the adapter;
    it appears whole or not at all. The same inputs on the same machine give the same bytes. What was measured is
    kept in a hidden folder beside it until then: the same call after an interruption asks nothing twice.

    Args:
        adapters: folders of PEFT LoRA adapters of ``base``.
        output: the folder to make.
        base: the model to put merges on.
        items: benchmarks: ``micro:TASK`` or JSONL files of items; the score is the mean over them.
        space: what is tried.
        by: what is measured: ``labels`` scores one answer to each item; ``agreement`` takes the information of two
            answers to each, whose gold answers are not needed and not read; ``pairs`` takes the loss on preference
            pairs, and no items. See :mod:`prefdelta.merging.tuning.objectives`.
        pairs: a JSON Lines file of preference pairs, for ``pairs`` alone; the first ``count`` are read.
        beta: β of the loss on pairs.
        split: ``validation`` is the validation part of a source, the one that ``prefdelta evaluate`` never reads;
            ``all`` takes a file whole, for a file that holds validation items only.
        scorer: how answers are scored, for all benchmarks.
        count: at most how many items of each benchmark, or how many pairs.
        sampling: how answers are drawn; its own seed is not used.
        corpus: what the model may search.
        options: the methods' own options, by method.
        seed: of the random numbers of the answers.
        extra_weights: as in ``merge``.
        dtype: as in ``merge``, of what is written.
        rank: as in ``merge``, of what is written.
        overwrite: replace a folder that is there already.
        told: called before anything is asked with (the most evaluations there can be, answers of each; or, for pairs,
            sequences that each reads).
        progress: called with (evaluations done, the most there can be).

    Raises:
        PrefdeltaError: an input cannot be read, inputs do not fit together, an argument is wrong, or the output
            cannot be written. Nothing is left behind.
    """
    space.check_options(options or {}, len(adapters))
    opened = [Adapter.open(path) for path in adapters]
    target = Path(output)
    check_arguments(opened, target, space.weights, 1.0, rank, extra_weights)
    check_place(target, [base.path, *items, *([pairs] if pairs else []), *([corpus.corpus] if corpus else [])])
    stored_dtype(dtype, opened)
    if extra_weights == "refuse":
        refuse_base_copies(opened, local_folder(base))
    names = tell_apart([adapter.path for adapter in opened])
    common_modules(opened, names)
    answering = sampling or Sampling()
    asked = questioning(by, items, pairs, split=split, scorer=scorer, count=count, sampling=answering)
    source = Source(name=public_name(base.path), fingerprint=fingerprint(base))
    sources = tuple(
        Source(name=name, fingerprint=adapter.fingerprint) for name, adapter in zip(names, opened, strict=True)
    )
    drawn = {} if by == "pairs" else answering.model_dump(exclude={"seed"})
    searched = corpus.model_dump(mode="json") if corpus else None
    told_of = [each.model_dump() for each in (*asked.described(), source, *sources)]
    key = digest([told_of, by, beta, drawn, searched, seed, metadata.version("prefdelta")])
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, space.evaluations(len(opened)))

    with staged_folder(target, overwrite=overwrite, key=key) as staging:
        loaded, environment = load(base), None if corpus is None else Environment.open(corpus)
        objective = asked.objective(loaded, answering, environment, seed, beta)
        if told is not None:
            told(space.evaluations(len(opened)), objective.cost)
        kept = ResumableRows(staging / f"measured{ROWS}")
        validation = Validation(
            objective, opened, options=options or {}, extra_weights=extra_weights, scored=tick, kept=kept
        )
        alone = validation.base()
        found = tune(validation, len(opened), space, start=validation.norm_matched)
        choice = validation.choice(found.tried)
        chosen = found.chosen
        prompts = environment.dressed(asked.prompts) if environment is not None else asked.prompts
        rows = own_rows(loaded, prompts, answering, environment, seed)
        kl = divergence(loaded, rows, validation.merged(chosen), 1.0)
        guard = guard_of(kl, validation.measured[chosen].unparsed, alone.unparsed, shared_with_base(validation, chosen))
        tried = {candidate: number for number, candidate in enumerate(validation.measured)}
        record = TuningRecord(
            prefdelta=metadata.version("prefdelta"),
            base=source,
            adapters=sources,
            by=by,
            beta=beta if by == "pairs" else None,
            cost=objective.cost,
            split=split,
            benchmarks=asked.described(),
            sampling=drawn,
            corpus=public_name(corpus.corpus) if corpus else None,
            seed=seed,
            base_score=alone.score,
            base_unparsed=alone.unparsed,
            trials=tuple(_tried(validation, candidate, names) for candidate in tried),
            average=tried[found.average] if found.average else None,
            singles=tuple(tried[candidate] for candidate in found.singles),
            selection=tuple(tried[candidate] for candidate in found.selection),
            leave_one_out=_parts(validation, found, names, tried) if space.leave_one_out else None,
            chosen=tried[chosen],
            ties=tuple(tried[candidate] for candidate in choice.ties),
            gain=validation.difference(chosen, found.average) if found.average else None,
            range=_level(choice),
            guard=guard,
            doubts=tuple(_doubts(alone, validation.measured[chosen], scored=by == "labels")),
            warnings=(*_warnings(validation, found, choice, alone.score), *guard.warnings),
        )
        _write(staging, opened, chosen, validation, extra_weights, dtype, rank)
        write_json(staging / RECORD_NAME, record.to_json())
    return record


def _tried(validation: Validation, candidate: Candidate, names: Sequence[str]) -> Tried:
    return Tried(
        adapters=tuple(names[member] for member in candidate.members),
        weights=candidate.weights,
        method=candidate.method,
        options=validation.options(candidate),
        scale=candidate.scale,
        score=validation.measured[candidate].score,
        unparsed=validation.measured[candidate].unparsed,
    )


def _parts(validation: Validation, found: Found, names: Sequence[str], tried: Mapping[Candidate, int]) -> LeaveOneOut:
    parts = (
        Part(
            adapter=names[member],
            trial=tried[without],
            contribution=validation.difference(found.whole, without),
        )
        for member, without in found.left_out.items()
    )
    return LeaveOneOut(trial=tried[found.whole], parts=tuple(parts))


@dataclass(frozen=True)
class _Answers:
    """How one model's answers are, in percent."""

    score: float
    unparsed: float
    truncated: float


def _doubts(base: Measured, chosen: Measured, *, scored: bool) -> list[str]:
    """What speaks against the scores of the base and of the choice; nothing where nothing was answered.

    A score of 0 says something only where answers are ``scored``.
    """
    return doubts(
        {
            name: {
                "these items": _Answers(100 * each.score if scored else 100, 100 * each.unparsed, 100 * each.truncated)
            }
            for name, each in (("the base", base), ("the choice", chosen))
            if each.unparsed is not None and each.truncated is not None
        }
    )


def _level(choice: Choice[Candidate]) -> tuple[float, float] | None:
    """The neighbouring λ of the chosen merge that are level with it."""
    same, scale = choice.best.place()
    if isinstance(scale, str):
        return None
    by_scale = {other.scale: other for other in (choice.best, *choice.others) if other.place()[0] == same}
    numbers = sorted(number for number in by_scale if not isinstance(number, str))
    return level_range(scale, [number for number in numbers if by_scale[number] in choice.ties], numbers)


def _warnings(validation: Validation, found: Found, choice: Choice[Candidate], base_score: float) -> list[str]:
    chosen, measured = found.chosen, validation.measured
    warnings = [
        f"the score of the choice is the best of {len(measured)} on the items that chose it, which is optimistic; "
        "report its score on other items."
    ]
    if choice.edge:
        warnings.append(
            f"the best λ lies at the edge of what was tried: {chosen.scale:g} is the {choice.edge}; "
            f"try {'smaller' if choice.edge == 'smallest' else 'larger'} ones."
        )
    if measured[chosen].score <= base_score:
        warnings.append("no merge scores higher than the base model without any adapter.")
    if len(chosen.members) == 1 and len(found.singles) > 1:
        warnings.append("the choice is a single adapter: no merge that was tried scores higher.")
    if choice.others and len(choice.ties) == len(choice.others):
        warnings.append(
            "cannot tell: no merge that was tried can be told from the choice by these items, so the choice means "
            "little; give more items."
        )
    average = found.average
    if average is not None and chosen != average and validation.difference(chosen, average).low <= 0:
        warnings.append("on these items the choice cannot be told from the plain average at λ = 1.")
    return warnings


def _write(
    staging: Path,
    adapters: Sequence[Adapter],
    chosen: Candidate,
    validation: Validation,
    extra_weights: Literal["refuse", "drop"],
    dtype: str | None,
    rank: int | Literal["servable"] | None,
) -> None:
    """The ordinary merge, with its files moved up into ``staging``, so that adapter and record appear together."""
    inner = staging / "merged"
    shutil.rmtree(inner, ignore_errors=True)  # a killed call may have left some of it
    merge(
        [adapters[member].path for member in chosen.members],
        inner,
        method=chosen.method,
        weights=chosen.weights,
        scale=chosen.scale,
        options=validation.options(chosen),
        extra_weights=extra_weights,
        dtype=dtype,
        rank=rank,
    )
    for path in sorted(inner.iterdir()):
        path.rename(staging / path.name)
    inner.rmdir()
