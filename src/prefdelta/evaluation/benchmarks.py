"""Which items a benchmark has for choosing (validation) and which for reporting (test)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.evaluator import Scoring
from prefdelta.recipe import Benchmark, Sampling
from prefdelta.records import Item
from prefdelta.sampling.prompts import load_questions, undressed

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Prepared:
    """One side of a benchmark, ready to be asked.

    Attributes:
        items: the questions.
        scorer: a key of ``SCORERS``, or a function.
        sampling: how the answers are drawn, if the benchmark has its own way; else as everything is.
    """

    items: list[Item]
    scorer: str | Scoring
    sampling: Sampling | None = None


def prepare(benchmark: Benchmark, split: Split, sampling: Sampling) -> Prepared:
    """One side of a benchmark. ``sampling`` says how answers are drawn elsewhere: its batch size holds here too.

    Raises:
        PrefdeltaError: as :func:`benchmark_items`.
    """
    if benchmark.lm_eval is None:
        return Prepared(benchmark_items(benchmark, split), benchmark.scorer)
    from prefdelta.evaluation.harness.benchmark import load_harness

    harness = load_harness(benchmark.lm_eval)
    return Prepared(benchmark_items(benchmark, split), harness.scorer, harness.sampling(sampling))


def benchmark_items(benchmark: Benchmark, split: Split) -> list[Item]:
    """The items of one side of a benchmark, the same on every machine; no item is on both sides.

    Embedded tasks have both splits. Other sources are read from ``validation_split`` and ``questions.split``; where
    no ``validation_split`` is named, both sides come from ``questions.split``, validation first. Items are drawn in
    the order of a hash of their id, so that a source that is sorted by subject or difficulty is sampled evenly and
    the draw does not change when the source's order does.

    Raises:
        PrefdeltaError: the source has no item left for this side, repeats an item id, or shares an item between its
            two splits.
    """
    count = benchmark.validation if split == "validation" else benchmark.test
    if count == 0:
        return []
    if benchmark.lm_eval is not None:
        from prefdelta.evaluation.harness.benchmark import load_harness

        return _side(benchmark, split, drawn(load_harness(benchmark.lm_eval).items))
    if benchmark.questions.source.startswith("micro:"):
        return load_questions(benchmark.questions.model_copy(update={"split": split}), count)
    if benchmark.validation_split is None:
        return _side(benchmark, split, drawn(_read(benchmark, benchmark.questions.split)))
    validation = _read(benchmark, benchmark.validation_split)
    test = _read(benchmark, benchmark.questions.split)
    shared = {item.id for item in validation} & {item.id for item in test}
    if shared:
        raise PrefdeltaError(
            f"benchmark {benchmark.name!r}: item {min(shared)!r} is in both the validation split "
            f"{benchmark.validation_split!r} and the test split {benchmark.questions.split!r}; "
            "leave validation_split out, then one split is divided."
        )
    return _some(benchmark, split, drawn(validation if split == "validation" else test)[:count])


def evaluation_texts(benchmarks: Sequence[Benchmark]) -> dict[str, list[str]]:
    """The questions of both sides of each benchmark, without template, system prompt and worked examples.

    Raises:
        PrefdeltaError: as :func:`benchmark_items`.
    """
    found: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        items = [*benchmark_items(benchmark, "validation"), *benchmark_items(benchmark, "test")]
        dressed_by = benchmark.questions if benchmark.lm_eval is None else None
        found[benchmark.name] = [undressed(item.messages, dressed_by) for item in items]
    return found


def drawn(items: Sequence[Item]) -> list[Item]:
    """Items in the order of a hash of their id."""
    return sorted(items, key=lambda item: (hashlib.sha256(item.id.encode()).digest(), item.id))


def _side(benchmark: Benchmark, split: Split, items: list[Item]) -> list[Item]:
    """One side of an undivided source, of which validation takes the first items."""
    if split == "validation":
        return _some(benchmark, split, items[: benchmark.validation])
    return _some(benchmark, split, items[benchmark.validation :][: benchmark.test])


def _some(benchmark: Benchmark, split: Split, items: list[Item]) -> list[Item]:
    if not items:
        raise PrefdeltaError(
            f"benchmark {benchmark.name!r}: no {split} item is left in {benchmark.questions.source}; "
            "lower its 'validation' count or name a 'validation_split'."
        )
    return items


def _read(benchmark: Benchmark, split: str | None) -> list[Item]:
    items = load_questions(benchmark.questions.model_copy(update={"split": split}))
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise PrefdeltaError(
                f"benchmark {benchmark.name!r}: two items of {benchmark.questions.source} have the id {item.id!r}; "
                "ids must differ."
            )
        seen.add(item.id)
    return items
