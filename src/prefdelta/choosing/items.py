"""The items that choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.benchmarks import benchmark_items
from prefdelta.recipe import Benchmark, configure
from prefdelta.records import Item

Split = Literal["validation", "all"]


def benchmark(source: str, split: Split, scorer: str, count: int) -> Benchmark:
    """A source as a benchmark whose validation side is the split to choose on.

    Raises:
        PrefdeltaError: the split is not one to choose on, or a value is wrong.
    """
    if split not in ("validation", "all"):
        raise PrefdeltaError(
            f"a merge is chosen on the split 'validation', or on 'all' of a file, not on {split!r}: "
            "items that chose a merge cannot tell how good it is."
        )
    if source.startswith("micro:") and split == "all":
        raise PrefdeltaError(f"{source} has splits of its own; choose on its 'validation' split.")
    if count < 2:
        raise PrefdeltaError(f"a comparison takes at least 2 items of each benchmark, not {count}.")
    name = source.removeprefix("micro:").rsplit("/", 1)[-1].removesuffix(".jsonl")
    whole = split == "all"
    return configure(
        Benchmark,
        {
            "name": name,
            "questions": {"source": source, "split": None if whole else "test"},
            "validation_split": None if whole else "validation",
            "validation": count,
            "scorer": scorer,
        },
        origin="search",
    )


def questions(benchmarks: Sequence[Benchmark]) -> dict[str, list[Item]]:
    """The items of every benchmark, at least two of each.

    Raises:
        PrefdeltaError: a source cannot be read or is too short, or two benchmarks have one name.
    """
    if not benchmarks:
        raise PrefdeltaError("there are no items to choose by; name at least one benchmark.")
    drawn: dict[str, list[Item]] = {}
    for entry in benchmarks:
        if entry.name in drawn:
            raise PrefdeltaError(f"two benchmarks are called {entry.name!r}; rename one file.")
        drawn[entry.name] = benchmark_items(entry, "validation")
        if len(drawn[entry.name]) < 2:
            raise PrefdeltaError(f"{entry.questions.source} has only one item here; a comparison takes two.")
    return drawn
