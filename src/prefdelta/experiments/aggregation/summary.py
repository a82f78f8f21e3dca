"""From the scored answers of an aggregation to its results: gains over the best single delta and over the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from prefdelta.core.records import Record
from prefdelta.evaluation.results import (
    AggregationResults,
    Best,
    BestVariant,
    Compared,
    Domain,
    DomainSelection,
    DomainSummary,
    Guard,
    Interval,
    ScaleGrid,
    Summary,
    TaskCompared,
    VariantKind,
    VariantResult,
)
from prefdelta.evaluation.score_table import POINTS, ScoreTable, Seed, interval, mean_difference
from prefdelta.merging.tuning.choice import Selection
from prefdelta.merging.tuning.guard import guard_of


@dataclass(frozen=True)
class Variant:
    """One model that was evaluated.

    Attributes:
        name: its key in the records; unique within a domain.
        kind: what it is.
        source: the delta (``single``), merge method (``merge``) or model that it is made of; defaults to the name.
        scale: λ, by which its adapter was multiplied; ``None`` without an adapter.
        tuned: λ was chosen (else it is the plain 1, or what labels would have chosen).
        norm: Frobenius norm of its update, mean over seeds.
        norm_ratio_to_average: that norm divided by the norm of the plain average at λ = 1.
        cosine_to_average: cosine between its update and the plain average.
    """

    name: str
    kind: VariantKind
    source: str = ""
    scale: float | None = None
    tuned: bool = False
    norm: float | None = None
    norm_ratio_to_average: float | None = None
    cosine_to_average: float | None = None

    @property
    def label(self) -> str:
        """The delta, method or model, by its own name."""
        return self.source or self.name


@dataclass(frozen=True)
class DomainOutcome:
    """All that was measured in one domain.

    Attributes:
        variants: exactly one ``student``, at least one ``single`` and one ``merge``; the order is kept.
        records: test records by (variant name, training seed). Every variant answered the same items.
        merges: what was chosen among the merges. The chosen method at its chosen scale must be a variant.
        singles: what was chosen for each single delta.
        labelled: what labels say of the same merges, where they did not choose; its choice must be a variant, too.
        unparsed: name -> λ -> the share of validation answers in which none was found.
        kl: of the chosen merge from the student, in nats a token, where it was measured.
    """

    variants: Sequence[Variant]
    records: Mapping[tuple[str, Seed], Sequence[Record]]
    merges: Selection
    singles: Selection | None = None
    labelled: Selection | None = None
    unparsed: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    kl: float | None = None


def summarise(recipe: str, seeds: Sequence[int], domains: Mapping[str, DomainOutcome]) -> AggregationResults:
    """All numbers of a run; equal input gives equal numbers.

    The merge that stands for a domain was chosen, method and λ, without the test items. The single delta that it is
    held against is the best one *on the test items*, among all single deltas both at λ = 1 and at the λ that
    validation labels chose for them: a comparison that leans against the merge.

    Raises:
        PrefdeltaError: two variants of a domain did not answer the same items.
    """
    compared = {name: _Domain(name, outcome) for name, outcome in domains.items()}
    return AggregationResults(
        recipe=recipe,
        seeds=list(seeds),
        summary=_overall(compared),
        domains={name: domain.results() for name, domain in compared.items()},
    )


class _Domain:
    """The score table of one domain, and the three models that its result is about."""

    def __init__(self, name: str, outcome: DomainOutcome) -> None:
        self.outcome = outcome
        (self.student,) = [variant for variant in outcome.variants if variant.kind == "student"]
        student_first = dict(sorted(outcome.records.items(), key=lambda entry: entry[0][0] != self.student.name))
        self.table = ScoreTable.from_records(student_first, where=f"domain {name!r}: ")
        singles = [variant for variant in outcome.variants if variant.kind == "single"]
        self.best_single = max(singles, key=lambda variant: self.table.score(variant.name))
        self.best_merge = self._chosen(outcome.merges)
        self.labelled_merge = self._chosen(outcome.labelled) if outcome.labelled else None

    def _chosen(self, selection: Selection) -> Variant:
        chosen = (selection.best, selection.scale[selection.best])
        merges = [variant for variant in self.outcome.variants if variant.kind == "merge"]
        return next(variant for variant in merges if (variant.label, variant.scale) == chosen)

    def results(self) -> Domain:
        """The domain's entry in ``results.json``."""
        outcome, labelled = self.outcome, self.labelled_merge
        behaviours = {variant.name: self.table.behaviours(variant.name) for variant in self.outcome.variants}
        return Domain(
            summary=DomainSummary(
                student=self.table.score(self.student.name),
                best_single=self.best(self.best_single),
                best_merge=self.best(self.best_merge),
                gain_over_best_single=self.table.interval(self.best_merge.name, self.best_single.name),
                gain_over_student=self.table.interval(self.best_merge.name, self.student.name),
                labelled_merge=self.best(labelled) if labelled else None,
                over_labelled_merge=self._versus(self.best_merge.name, labelled.name, None) if labelled else None,
            ),
            selection=DomainSelection(
                **dict(self._grid(outcome.merges)),
                best_merge=outcome.merges.best,
                ties=list(outcome.merges.ties),
                singles=self._grid(outcome.singles) if outcome.singles else None,
                labelled=self._grid(outcome.labelled) if outcome.labelled else None,
                guard=self._guard(),
            ),
            tasks=self.table.tasks,
            methods={variant.name: self._variant(variant) for variant in self.outcome.variants},
            behaviours=behaviours if any(behaviours.values()) else None,
        )

    def best(self, variant: Variant) -> BestVariant:
        """A variant as the summaries show it."""
        score = self.table.score(variant.name)
        return BestVariant(name=variant.label, variant=variant.name, scale=variant.scale, score=score)

    def _grid(self, selection: Selection) -> ScaleGrid:
        factor = 1.0 if selection.by == "pairs" else POINTS
        shares = {name: shares for name, shares in self.outcome.unparsed.items() if name in selection.scores}
        return ScaleGrid(
            by=selection.by,
            scores={name: _by_scale(grid, factor) for name, grid in selection.scores.items()},
            best_scale=dict(selection.scale),
            at_edge=list(selection.at_edge),
            ranges=dict(selection.ranges),
            flat=list(selection.flat),
            unparsed={name: _by_scale(grid, POINTS) for name, grid in shares.items()} if any(shares.values()) else None,
        )

    def _guard(self) -> Guard | None:
        if self.outcome.kl is None:
            return None
        mine, base = (self._unparsed(variant.name) for variant in (self.best_merge, self.student))
        return guard_of(self.outcome.kl, mine / POINTS, base / POINTS)

    def _unparsed(self, variant: str) -> float:
        return float(np.mean([self.table.health(variant, task).unparsed for task in self.table.tasks]))

    def _variant(self, variant: Variant) -> VariantResult:
        return VariantResult(
            kind=variant.kind,
            source=variant.label,
            scale=variant.scale,
            tuned=variant.tuned,
            norm=variant.norm,
            norm_ratio_to_average=variant.norm_ratio_to_average,
            cosine_to_average=variant.cosine_to_average,
            average=self._compared(variant.name, None),
            tasks={
                task: TaskCompared(
                    **dict(self._compared(variant.name, task)),
                    **asdict(self.table.health(variant.name, task)),
                    measures=self.table.measures(variant.name, task),
                )
                for task in self.table.tasks
            },
        )

    def _compared(self, variant: str, task: str | None) -> Compared:
        return Compared(
            score=self.table.score(variant, task),
            n=self.table.items(task),
            vs_student=self._versus(variant, self.student.name, task),
            vs_best_single=self._versus(variant, self.best_single.name, task),
            changed=None if variant == self.student.name else self.table.changed(variant, self.student.name, task),
        )

    def _versus(self, variant: str, other: str, task: str | None) -> Interval | None:
        return None if variant == other else self.table.interval(variant, other, task)


def _overall(domains: Mapping[str, _Domain]) -> Summary:
    merges = {name: domain.best_merge for name, domain in domains.items()}
    singles = {name: domain.best_single for name, domain in domains.items()}
    students = {name: domain.student for name, domain in domains.items()}

    def score(which: Mapping[str, Variant]) -> float:
        return float(np.mean([domain.table.score(which[name].name) for name, domain in domains.items()]))

    def best(which: Mapping[str, Variant]) -> Best:
        return Best(name="; ".join(f"{name}: {which[name].label}" for name in domains), score=score(which))

    def gain(over: Mapping[str, Variant]) -> Interval:
        compared = [(domain.table, merges[name].name, over[name].name) for name, domain in domains.items()]
        return interval(mean_difference(compared))

    return Summary(
        student=score(students),
        best_single=best(singles),
        best_merge=best(merges),
        gain_over_best_single=gain(singles),
        gain_over_student=gain(students),
    )


def _by_scale(grid: Mapping[float, float], factor: float) -> dict[str, float]:
    return {f"{scale:g}": factor * value for scale, value in grid.items()}
