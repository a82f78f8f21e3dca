"""Which items a benchmark has for choosing (validation) and which for reporting (test)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from prefdelta.errors import PrefdeltaError
from prefdelta.pairs.prompts import load_questions
from prefdelta.recipe import Benchmark
from prefdelta.records import Item

Split = Literal["validation", "test"]


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
    if benchmark.questions.source.startswith("micro:"):
        return load_questions(benchmark.questions.model_copy(update={"split": split}), count)
    if benchmark.validation_split is None:
        drawn = _drawn(_read(benchmark, benchmark.questions.split))
        chosen = drawn[:count] if split == "validation" else drawn[benchmark.validation :][:count]
    else:
        validation = _read(benchmark, benchmark.validation_split)
        test = _read(benchmark, benchmark.questions.split)
        shared = {item.id for item in validation} & {item.id for item in test}
        if shared:
            raise PrefdeltaError(
                f"benchmark {benchmark.name!r}: item {min(shared)!r} is in both the validation split "
                f"{benchmark.validation_split!r} and the test split {benchmark.questions.split!r}; "
                "leave validation_split out, then one split is divided."
            )
        chosen = _drawn(validation if split == "validation" else test)[:count]
    if not chosen:
        raise PrefdeltaError(
            f"benchmark {benchmark.name!r}: no {split} item is left in {benchmark.questions.source}; "
            "lower its 'validation' count or name a 'validation_split'."
        )
    return chosen


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


def _drawn(items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (hashlib.sha256(item.id.encode()).digest(), item.id))
