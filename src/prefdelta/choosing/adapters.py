"""Searching for the best merge of adapters on disk, and writing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from prefdelta.adapter import Adapter, staged_folder
from prefdelta.choosing.candidate import Candidate
from prefdelta.choosing.items import Split, benchmark, questions
from prefdelta.choosing.record import LeaveOneOut, Part, Questions, SearchRecord, Source, Tried
from prefdelta.choosing.search import Found, Space, search
from prefdelta.choosing.validation import Validation
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.merging.engine import merge
from prefdelta.merging.inputs import check_arguments, common_modules
from prefdelta.merging.labels import tell_apart
from prefdelta.merging.registry import get_method
from prefdelta.merging.report import public_name
from prefdelta.models import fingerprint, load
from prefdelta.recipe import Benchmark, ModelRef, Sampling, Search
from prefdelta.records import Item, digest
from prefdelta.retrieval import open_retriever
from prefdelta.search import Environment
from prefdelta.store import write_json

RECORD_NAME = "prefdelta_search.json"


def search_adapters(
    adapters: Sequence[Path | str],
    output: Path | str,
    *,
    base: ModelRef,
    items: Sequence[str],
    space: Space,
    split: Split = "validation",
    scorer: str = "exact-match",
    count: int = 200,
    sampling: Sampling | None = None,
    corpus: Search | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    extra_weights: Literal["refuse", "drop"] = "refuse",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SearchRecord:
    """Find the merge that answers validation items best, and write it with :func:`prefdelta.merging.merge`.

    The base is loaded once; every candidate is merged in memory, put on the base and taken off again. The output
    folder is that of ``merge`` and holds ``prefdelta_search.json`` (the record that is returned) beside the adapter;
    it appears whole or not at all. The same inputs on the same machine give the same bytes.

    Args:
        adapters: folders of PEFT LoRA adapters of ``base``.
        output: the folder to make.
        base: the model to put merges on.
        items: benchmarks: ``micro:TASK`` or JSONL files of items with answers; the score is the mean over them.
        space: what is tried.
        split: ``validation`` is the validation part of a source, the one that ``prefdelta evaluate`` never reads;
            ``all`` takes a file whole, for a file that holds validation items only.
        scorer: how answers are scored, for all benchmarks.
        count: at most how many items of each benchmark.
        sampling: how answers are drawn; its own seed is not used.
        corpus: what the model may search.
        options: the methods' own options, by method.
        seed: of the random numbers of the answers.
        extra_weights: as in ``merge``.
        overwrite: replace a folder that is there already.
        progress: called with (evaluations done, the most there can be).

    Raises:
        PrefdeltaError: an input cannot be read, inputs do not fit together, an argument is wrong, or the output
            cannot be written. Nothing is left behind.
    """
    opened = [Adapter.open(path) for path in adapters]
    target = Path(output)
    check_arguments(opened, target, None, 1.0, None, extra_weights)
    names = tell_apart([adapter.path for adapter in opened])
    common_modules(opened, names)
    _check_options(options or {}, space.methods)
    benchmarks = [benchmark(source, split, scorer, count) for source in items]
    drawn = questions(benchmarks)
    answering = sampling or Sampling()
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, space.evaluations(len(opened)))

    with staged_folder(target, overwrite=overwrite) as staging:
        validation = Validation(
            Evaluator(load(base)),
            opened,
            options=options or {},
            items=drawn,
            scorers={entry.name: entry.scorer for entry in benchmarks},
            sampling=answering,
            search=_environment(corpus),
            seed=seed,
            extra_weights=extra_weights,
            scored=tick,
        )
        base_score = validation.base()
        found = search(validation, len(opened), space)
        tried = {candidate: number for number, candidate in enumerate(validation.scores)}
        record = SearchRecord(
            schema=1,
            version=metadata.version("prefdelta"),
            base=Source(public_name(base.path), fingerprint(base)),
            adapters=tuple(Source(name, adapter.fingerprint) for name, adapter in zip(names, opened, strict=True)),
            split=split,
            benchmarks=tuple(_described(entry, drawn[entry.name]) for entry in benchmarks),
            sampling=answering.model_dump(exclude={"seed"}),
            corpus=public_name(corpus.corpus) if corpus else None,
            seed=seed,
            base_score=base_score,
            trials=tuple(_tried(validation, candidate, names) for candidate in tried),
            average=tried[found.average],
            singles=tuple(tried[candidate] for candidate in found.singles),
            selection=tuple(tried[candidate] for candidate in found.selection),
            leave_one_out=_parts(validation, found, names, tried) if space.leave_one_out else None,
            chosen=tried[found.chosen],
            gain=validation.difference(found.chosen, found.average),
            warnings=tuple(_warnings(validation, found, space, base_score)),
        )
        _write(staging, opened, found.chosen, validation, extra_weights)
        write_json(staging / RECORD_NAME, record)
    return record


def _check_options(options: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> None:
    for method, given in options.items():
        if method not in methods:
            raise PrefdeltaError(f"options are given for {method}, which is not among the methods that are tried.")
        get_method(method).parse(given)


def _environment(search: Search | None) -> Environment | None:
    return None if search is None else Environment(open_retriever(search), search)


def _described(entry: Benchmark, items: Sequence[Item]) -> Questions:
    source = public_name(entry.questions.source) or entry.name
    return Questions(entry.name, source, entry.scorer, len(items), digest(items))


def _tried(validation: Validation, candidate: Candidate, names: Sequence[str]) -> Tried:
    return Tried(
        tuple(names[member] for member in candidate.members),
        candidate.weights,
        candidate.method,
        validation.options(candidate),
        candidate.scale,
        validation.scores[candidate],
    )


def _parts(validation: Validation, found: Found, names: Sequence[str], tried: Mapping[Candidate, int]) -> LeaveOneOut:
    parts = (
        Part(names[member], tried[without], validation.difference(found.whole, without))
        for member, without in found.left_out.items()
    )
    return LeaveOneOut(tried[found.whole], tuple(parts))


def _warnings(validation: Validation, found: Found, space: Space, base_score: float) -> list[str]:
    chosen, scores = found.chosen, validation.scores
    warnings = [
        f"the score of the choice is the best of {len(scores)} on the items that chose it, which is optimistic; "
        "report its score on other items."
    ]
    numbers = sorted({scale for scale in space.scales if not isinstance(scale, str)})
    if len(numbers) > 1 and chosen.scale in (numbers[0], numbers[-1]):
        side = "smallest" if chosen.scale == numbers[0] else "largest"
        warnings.append(f"the chosen λ = {chosen.scale:g} is the {side} that was tried; a better one may lie beyond.")
    if scores[chosen] <= base_score:
        warnings.append("no merge scores higher than the base model without any adapter.")
    if len(chosen.members) == 1 and len(found.singles) > 1:
        warnings.append("the choice is a single adapter: no merge that was tried scores higher.")
    gain = validation.difference(chosen, found.average)
    if chosen != found.average and gain.low <= 0:
        warnings.append("on these items the choice cannot be told from the plain average at λ = 1.")
    return warnings


def _write(
    staging: Path,
    adapters: Sequence[Adapter],
    chosen: Candidate,
    validation: Validation,
    extra_weights: Literal["refuse", "drop"],
) -> None:
    """The ordinary merge, with its files moved up into ``staging``, so that adapter and record appear together."""
    inner = staging / "merged"
    merge(
        [adapters[member].path for member in chosen.members],
        inner,
        method=chosen.method,
        weights=chosen.weights,
        scale=chosen.scale,
        options=validation.options(chosen),
        extra_weights=extra_weights,
    )
    for path in sorted(inner.iterdir()):
        path.rename(staging / path.name)
    inner.rmdir()
