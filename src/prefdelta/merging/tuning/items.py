"""The items or preference pairs that choose, read and checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, get_args

from prefdelta.agent import Environment
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.files import expanded
from prefdelta.core.models import LoadedModel
from prefdelta.core.names import public_name
from prefdelta.core.records import Item, Pair, digest, read_rows
from prefdelta.evaluation.benchmarks import EXACT_MATCH, benchmark_items
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.pair_margins import PairRows
from prefdelta.merging.tuning.objectives import Information, Labels, Objective, PairLoss
from prefdelta.merging.tuning.record import Questions
from prefdelta.recipe import Benchmark, By, Sampling, configure

Split = Literal["validation", "all"]


@dataclass(frozen=True)
class AskedItems:
    """Benchmarks and their items, to choose by labels or by agreement."""

    by: Literal["labels", "agreement"]
    benchmarks: Sequence[Benchmark]
    items: Mapping[str, Sequence[Item]]

    def objective(
        self, loaded: LoadedModel, sampling: Sampling, search: Environment | None, seed: int, beta: float
    ) -> Objective:
        """What measures adapters of this base; ``beta`` is for pairs."""
        make = Labels if self.by == "labels" else Information
        scorers = {entry.name: entry.scorer or EXACT_MATCH for entry in self.benchmarks}
        return make(Evaluator(loaded), items=self.items, scorers=scorers, sampling=sampling, search=search, seed=seed)

    @property
    def prompts(self) -> list[Item]:
        """What the base is asked for the guard: the benchmarks in turn."""
        return [item for turn in zip_longest(*self.items.values()) for item in turn if item is not None]

    def described(self) -> tuple[Questions, ...]:
        """What the record says."""
        return tuple(
            Questions(
                name=entry.name,
                source=public_name(entry.questions.source) or entry.name,
                scorer=(entry.scorer or EXACT_MATCH).name,
                items=len(self.items[entry.name]),
                content=digest(self.items[entry.name]),
            )
            for entry in self.benchmarks
        )


@dataclass(frozen=True)
class AskedPairs:
    """Preference pairs to choose by."""

    path: Path
    pairs: Sequence[Pair]

    def objective(
        self, loaded: LoadedModel, sampling: Sampling, search: Environment | None, seed: int, beta: float
    ) -> Objective:
        """What measures adapters of this base; nothing is sampled or searched."""
        rows = PairRows.of(self.pairs, loaded).rows
        if len(rows) < 2:
            raise PrefdeltaError(f"{self.path} has only one pair that can be compared; a comparison takes two.")
        return PairLoss(loaded, rows, beta)

    @property
    def prompts(self) -> list[Item]:
        """What the base is asked for the guard."""
        return [Item(pair.id, pair.task, pair.prompt) for pair in self.pairs]

    def described(self) -> tuple[Questions, ...]:
        """What the record says."""
        return (
            Questions(
                name=self.path.stem,
                source=self.path.name,
                scorer="pair-loss",
                items=len(self.pairs),
                content=digest(self.pairs),
            ),
        )


def questioning(
    by: By,
    items: Sequence[str],
    pairs: Path | str | None,
    *,
    split: Split,
    scorer: str,
    count: int,
    sampling: Sampling,
) -> AskedItems | AskedPairs:
    """What a merge is chosen by, read and checked.

    Raises:
        PrefdeltaError: a source cannot be read or is too short, or what is given does not fit ``by``.
    """
    if by not in get_args(By):
        raise PrefdeltaError(f"a merge cannot be chosen by {by!r}; {did_you_mean(by, get_args(By))}")
    if by == "pairs":
        if pairs is None or items:
            raise PrefdeltaError("choosing by pairs takes a file of preference pairs, and no items.")
        read = list(read_rows(expanded(pairs), Pair))[:count]
        if len(read) < 2:
            raise PrefdeltaError(f"a comparison takes at least 2 pairs of {pairs}, not {len(read)}.")
        return AskedPairs(Path(pairs), read)
    if pairs is not None:
        raise PrefdeltaError(f"a merge chosen by {by} takes items, not pairs; choose by pairs to use {pairs}.")
    benchmarks = [benchmark(source, split, scorer, count) for source in items]
    drawn = questions(benchmarks)
    for name, rows in drawn.items():
        bare = sum(not item.answers for item in rows)
        if by == "labels" and bare:
            raise PrefdeltaError(f"{bare} of {len(rows)} items of {name!r} have no answers; choose by agreement.")
        if by == "agreement" and len({digest(item.messages) for item in rows}) < 2:
            raise PrefdeltaError(f"all items of {name!r} ask the same question; agreement takes two different ones.")
    if by == "agreement" and sampling.temperature == 0:
        raise PrefdeltaError("agreement compares sampled answers, and greedy ones are all the same; raise temperature.")
    return AskedItems(by, benchmarks, drawn)


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
        origin="tune",
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
