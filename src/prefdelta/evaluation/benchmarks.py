"""Which items a benchmark has for choosing (validation) and which for reporting (test).

Another package adds a whole benchmark, items with their scorer, by an entry point of the group
``prefdelta.benchmarks``; see ``docs/extending.md``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from prefdelta.core.config import Config
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.records import Item, Pair, read_rows
from prefdelta.core.registry import NoOptions, Registry, find_configured
from prefdelta.evaluation.instructions import InstructionOptions, instructions
from prefdelta.generation.prompts import load_questions, undressed
from prefdelta.recipe import Benchmark, Named, Sampling

if TYPE_CHECKING:
    from prefdelta.evaluation.evaluator import Scoring

Split = Literal["validation", "test"]

Asked = TypeVar("Asked", Item, Pair)

EXACT_MATCH = Named(name="exact-match")
"""The scorer where a recipe names none."""


@dataclass(frozen=True)
class Prepared:
    """One side of a benchmark, ready to be asked.

    Attributes:
        items: the questions.
        scorer: a scorer's name and options, or a function.
        sampling: how the answers are drawn, if the benchmark has its own way; else as everything is.
    """

    items: list[Item]
    scorer: Named | Scoring
    sampling: Sampling | None = None


@dataclass(frozen=True)
class BenchmarkSource:
    """A registered benchmark.

    Attributes:
        name: what recipes call it.
        items: ``options -> items``, the same on every machine; validation and test items are drawn from them.
        scorer: how answers are scored, if the recipe does not say otherwise.
        options: the model of its options.
    """

    name: str
    items: Callable[[Any], Sequence[Item]]
    scorer: Named | Scoring
    options: type[Config] = NoOptions


BENCHMARKS: Registry[BenchmarkSource] = Registry("benchmark", "prefdelta.benchmarks")


BENCHMARKS.register(
    "instructions", BenchmarkSource("instructions", instructions, Named(name="instructions"), InstructionOptions)
)


def prepare(benchmark: Benchmark, split: Split, sampling: Sampling) -> Prepared:
    """One side of a benchmark. ``sampling`` says how answers are drawn elsewhere: its batch size holds here too.

    Raises:
        PrefdeltaError: as :func:`benchmark_items`.
    """
    if benchmark.benchmark is not None:
        source, _ = find_configured(BENCHMARKS, benchmark.benchmark)
        return Prepared(benchmark_items(benchmark, split), benchmark.scorer or source.scorer)
    if benchmark.lm_eval is None:
        return Prepared(benchmark_items(benchmark, split), benchmark.scorer or EXACT_MATCH)
    from prefdelta.evaluation.lm_eval.benchmark import load_harness

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
            two splits; or it is made of pairs.
    """
    count = benchmark.validation if split == "validation" else benchmark.test
    if count == 0:
        return []
    if benchmark.lm_eval is not None:
        from prefdelta.evaluation.lm_eval.benchmark import load_harness

        return _side(benchmark, split, drawn(load_harness(benchmark.lm_eval).items))
    if benchmark.benchmark is not None:
        source, options = find_configured(BENCHMARKS, benchmark.benchmark)
        return _side(benchmark, split, drawn(_distinct(benchmark, source.items(options))))
    if benchmark.pairs is not None:
        raise PrefdeltaError(f"benchmark {benchmark.name!r} is made of pairs, which are compared and not answered.")
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


def answered_items(benchmarks: Sequence[Benchmark], split: Split) -> dict[str, list[Item]]:
    """The items of one side of each benchmark that is answered; benchmarks of pairs are left out.

    Raises:
        PrefdeltaError: as :func:`benchmark_items`.
    """
    return {entry.name: benchmark_items(entry, split) for entry in benchmarks if entry.pairs is None}


def benchmark_pairs(benchmark: Benchmark, split: Split, file: Path) -> list[Pair]:
    """The pairs of one side of a benchmark of preference pairs, drawn from a file as items are.

    Raises:
        PrefdeltaError: the file cannot be read, repeats an id, or has no pair left for this side.
    """
    count = benchmark.validation if split == "validation" else benchmark.test
    return _side(benchmark, split, drawn(_distinct(benchmark, read_rows(file, Pair)))) if count else []


def evaluation_texts(benchmarks: Sequence[Benchmark]) -> dict[str, list[str]]:
    """The questions of both sides of each benchmark, without template, system prompt and worked examples.

    Raises:
        PrefdeltaError: as :func:`benchmark_items`.
    """
    found: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        if benchmark.pairs is not None:
            # Pairs that a delta holds out answer the domain's own prompts, which are set aside for them.
            if benchmark.pairs.path is not None:
                pairs = read_rows(expanded(benchmark.pairs.path), Pair)
                found[benchmark.name] = [undressed(pair.prompt, None) for pair in pairs]
            continue
        items = [*benchmark_items(benchmark, "validation"), *benchmark_items(benchmark, "test")]
        made = benchmark.lm_eval is not None or benchmark.benchmark is not None
        dressed_by = None if made else benchmark.questions
        found[benchmark.name] = [undressed(item.messages, dressed_by) for item in items]
    return found


def drawn(items: Sequence[Asked]) -> list[Asked]:
    """Items or pairs in the order of a hash of their id."""
    return sorted(items, key=lambda item: (hashlib.sha256(item.id.encode()).digest(), item.id))


def _side(benchmark: Benchmark, split: Split, items: list[Asked]) -> list[Asked]:
    """One side of an undivided source, of which validation takes the first items."""
    if split == "validation":
        return _some(benchmark, split, items[: benchmark.validation])
    return _some(benchmark, split, items[benchmark.validation :][: benchmark.test])


def _some(benchmark: Benchmark, split: Split, items: list[Asked]) -> list[Asked]:
    if not items:
        raise PrefdeltaError(
            f"benchmark {benchmark.name!r}: no {split} item is left in {benchmark.questions.source}; "
            "lower its 'validation' count or name a 'validation_split'."
        )
    return items


def _read(benchmark: Benchmark, split: str | None) -> Sequence[Item]:
    return _distinct(benchmark, load_questions(benchmark.questions.model_copy(update={"split": split})))


def _distinct(benchmark: Benchmark, items: Sequence[Asked]) -> Sequence[Asked]:
    again = next((name for name, count in Counter(item.id for item in items).items() if count > 1), None)
    if again is not None:
        raise PrefdeltaError(
            f"benchmark {benchmark.name!r}: two items of {benchmark.questions.source} have the id {again!r}; "
            "ids must differ."
        )
    return items
