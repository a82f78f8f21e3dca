"""What is measured of one merge: λ chosen by agreement, by labels and by what needs neither, each on other items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from prefdelta import micro
from prefdelta.adapters import Adapter, LoraAdapter, MemoryAdapter
from prefdelta.adapters.trained import OwnScale
from prefdelta.agent import Environment
from prefdelta.core.manifests import ROWS
from prefdelta.core.models import LoadedModel, load
from prefdelta.core.records import Record, digest
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.merging.report import MergeReport
from prefdelta.merging.scale import Scale
from prefdelta.merging.stored import global_scale, unscaled
from prefdelta.merging.tuning.agreement import agreement
from prefdelta.merging.tuning.guard import divergence, own_rows
from prefdelta.merging.tuning.line_search import maximise
from prefdelta.merging.tuning.objectives import asked, draw_seeds, informative, labelled
from prefdelta.recipe import ModelRef, Sampling, Search
from prefdelta.training.data import Row

TASKS = {"reasoning": ("chain", "story", "audit", "ledger"), "search": ("lookup", "rephrase", "relay")}
SAMPLING = {
    "reasoning": Sampling(temperature=1.0, max_new_tokens=64, batch_size=512),
    "search": Sampling(temperature=1.0, max_new_tokens=32, batch_size=512),
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "average": ("average", {}),
    "ties": ("ties", {"density": 0.2}),
    "knots-ties": ("knots-ties", {}),
    "gam": ("gam", {"reference": 0}),
    "truncate": ("truncate", {}),
    "truncate-ties": ("truncate-ties", {}),
}
"""What is compared -> method and options."""
BUDGET = 7
TEST_SEED = 1000


@dataclass(frozen=True)
class Sizes:
    """Items of each task: unlabelled questions that choose, and others that test."""

    ask: int
    test: int


@dataclass(frozen=True)
class Cell:
    """One merge of some deltas of one training seed.

    Attributes:
        family: the models.
        domain: the tasks.
        seed: of the training.
        epochs: of the training.
        members: the adapters, by their names in the run.
        method: a key of :data:`METHODS`.
        fixed: a λ that is tested too, whatever is chosen.
        variant: how the deltas were trained, where not as the demo's.
        classes: numbers of classes; λ is also chosen by the agreement of answers of which only the class is seen.
    """

    family: str
    domain: str
    seed: int
    epochs: float
    members: tuple[str, ...]
    method: str
    fixed: float | None = None
    variant: str = ""
    classes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What the cell's files are called."""
        trained = "-".join(filter(None, (f"x{self.epochs:g}", self.variant)))
        return f"{self.family}-{self.domain}-{self.seed}-{trained}-{'+'.join(self.members)}-{self.method}"


class Bench:
    """A student, loaded once, and the items of one domain."""

    def __init__(self, student: str, domain: str, sizes: Sizes) -> None:
        tasks = TASKS[domain]
        self.domain = domain
        self.asked = {task: micro.items(task, split="validation", count=sizes.ask) for task in tasks}
        self.others = {task: micro.items(task, split="test", count=sizes.test) for task in tasks}
        self._student = student
        self.search = (
            Environment.open(Search(corpus="micro:corpus", top_k=1, max_turns=4, max_words=350))
            if domain == "search"
            else None
        )
        self._setting: tuple[Any, ...] = (dict.fromkeys(tasks, "exact-match"), SAMPLING[domain], self.search)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The student."""
        return load(ModelRef(path=self._student))

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.loaded)

    def validated(self, adapter: LoraAdapter | None, classes: Sequence[int] = ()) -> dict[str, Any]:
        """Two answers to each unlabelled question: how far they agree, and, beside it, how many are right.

        With ``classes`` also how far they agree where each answer is seen as one of so many, as in multiple choice.
        """
        draws = [
            self._evaluator.evaluate(adapter, 1.0, self.asked, *self._setting, seed=seed) for seed in draw_seeds(0)
        ]
        found = informative(draws, asked(self.asked))
        by_task = [[[record for record in draw if record.task == task] for draw in draws] for task in self.asked]
        alike = [agreement(*([record.parsed for record in draw] for draw in both)) for both in by_task]
        return {
            "agreement": found.score,
            "labels": labelled(draws, list(self.asked)).score,
            "unparsed": found.unparsed,
            "truncated": found.truncated,
            "within": float(np.mean([task.within for task in alike])),
            "across": float(np.mean([task.across for task in alike])),
            "commonest": float(np.mean([_commonest(both) for both in by_task])),
            # With the student's own answers, never of one seed.
            "shared": float(
                np.mean([_information(*pair, self.asked) for pair in zip(self._own_draws, draws[::-1], strict=True)])
            ),
            **{f"{count} classes": _information(draws[0], draws[1], self.asked, count) for count in classes},
        }

    @cached_property
    def _own_draws(self) -> list[list[Record]]:
        return [self._evaluator.evaluate(None, 1.0, self.asked, *self._setting, seed=seed) for seed in draw_seeds(0)]

    def tested(self, adapter: LoraAdapter | None) -> list[list[int]]:
        """By task, which of the test items are answered right."""
        records = self._evaluator.evaluate(adapter, 1.0, self.others, *self._setting, seed=TEST_SEED)
        return [[round(record.score) for record in records if record.task == task] for task in self.others]

    def student(self, folder: Path, family: str) -> list[list[int]]:
        """:meth:`tested` of the student itself, kept in ``folder``."""
        kept = ResumableRows(folder / f"{family}-{self.domain}-student{ROWS}")
        if (key := digest([self._student, self.others])) not in kept.found:
            kept.add([(key, self.tested(None))])
        found: list[list[int]] = kept.found[key]
        return found

    @cached_property
    def own(self) -> tuple[Row, ...]:
        """What the student itself answers to training questions, for the guard."""
        items = micro.items(self.domain, split="train", count=64)
        return own_rows(self.loaded, items, SAMPLING[self.domain], self.search, 0)


def _commonest(draws: Sequence[Sequence[Record]]) -> float:
    """The share of all answers that the commonest one has."""
    counts = Counter(record.parsed for draw in draws for record in draw if record.parsed is not None)
    return max(counts.values(), default=0) / sum(map(len, draws))


def _information(
    one: Sequence[Record], other: Sequence[Record], tasks: Iterable[str], classes: int | None = None
) -> float:
    """The mean information over tasks of two answers to each item; of their classes, if those alone are seen.

    Equal answers are of one class; of others, one in ``classes`` is by chance.
    """

    def seen(record: Record) -> str | None:
        if record.parsed is None or classes is None:
            return record.parsed
        return str(int(digest(record.parsed), 16) % classes)

    draws = [[[seen(record) for record in draw if record.task == task] for draw in (one, other)] for task in tasks]
    return float(np.mean([agreement(*both).information for both in draws]))


def measured(
    cell: Cell, adapters: Sequence[Path], own: Sequence[OwnScale], bench: Bench, folder: Path
) -> dict[str, Any]:
    """Everything of one cell; every answer is kept in ``folder``, so that nothing is asked twice.

    λ is searched twice from one bracket with one budget, by agreement and by labels; both are measured of the same
    answers. Tested on other items are what they choose, λ = 1, ``norm-matched``, ``projection``, ``stored`` where
    the adapters' ``own`` scales are given, and the cell's ``fixed`` λ.
    """
    opened = [Adapter.open(path) for path in adapters]
    method, options = METHODS[cell.method]
    making: dict[str, Any] = {"method": method, "options": options}
    what = [[adapter.fingerprint for adapter in opened], making, bench.asked, bench.others]
    identity = digest([*what, cell.classes] if cell.classes else what)[:16]
    kept = ResumableRows(folder / f"{cell.name}{ROWS}")

    def once(what: str, make: Callable[[], Any]) -> Any:
        if (key := f"{identity} {what}") not in kept.found:
            kept.add([(key, make())])
        return kept.found[key]

    @cache
    def merged(scale: Scale) -> MemoryAdapter:
        return merge_in_memory(opened, **making, scale=scale)

    def at(scale: Scale) -> MemoryAdapter:
        return merged(scale) if isinstance(scale, str) else merged(1.0).scaled(scale)

    report = MergeReport(**once("report", partial(_unscaled, opened, **making)), modules=())
    start = float(np.mean([entry.norm for entry in report.adapters])) / report.norm
    tried: dict[float, dict[str, Any]] = {}

    def searched(by: str) -> float:
        def score(scale: float) -> float:
            tried[scale] = once(f"asked at {scale:g}", lambda: bench.validated(at(scale), cell.classes))
            return float(tried[scale][by])

        return maximise(score, start, BUDGET)

    seen = [f"{count} classes" for count in cell.classes]
    chosen: dict[str, Scale] = {by: searched(by) for by in ("agreement", "labels", *seen)}
    chosen |= {"one": 1.0, "norm-matched": start, "projection": "projection"}
    if own and all(each.scale for each in own):
        chosen["stored"] = global_scale([each.scale for each in own], report)
    if cell.fixed is not None:
        chosen["fixed"] = cell.fixed
    tests = {by: once(f"tested at {scale}", partial(_tested, bench, at, scale)) for by, scale in chosen.items()}
    return {
        "cell": asdict(cell),
        "start": start,
        "own": [asdict(each) for each in own],
        "norms": [entry.norm for entry in report.adapters],
        "kept": [entry.kept_projection for entry in report.adapters],
        "norm": report.norm,
        "average_norm": report.average_norm,
        "tried": {f"{scale:g}": tried[scale] for scale in sorted(tried)},
        "chosen": chosen,
        "tests": tests,
        "kl": {by: once(f"kl at {chosen[by]}", partial(_kl, bench, at, chosen[by])) for by in ("agreement", "labels")},
    }


def _unscaled(adapters: Sequence[Adapter], **making: Any) -> dict[str, Any]:
    return unscaled(adapters, **making).model_dump(mode="json", exclude={"modules"})


def _kl(bench: Bench, at: Callable[[Scale], MemoryAdapter], scale: Scale) -> float:
    return divergence(bench.loaded, bench.own, at(scale), 1.0)


def _tested(bench: Bench, at: Callable[[Scale], MemoryAdapter], scale: Scale) -> list[list[int]]:
    return bench.tested(at(scale))
