"""The objective: how well a merge answers validation items, with one base model that stays loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from prefdelta.adapter import Adapter, MemoryAdapter
from prefdelta.choosing.candidate import Candidate
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.results import domain_score
from prefdelta.evaluation.statistics import Array, Difference, paired_difference
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.merging.registry import get_method
from prefdelta.merging.scale import Scale
from prefdelta.recipe import Sampling
from prefdelta.records import Item
from prefdelta.search import Environment


class Validation:
    """Scores candidates, each once: merges in memory, puts the result on the model, answers, takes it off again.

    All candidates answer the same items with the same random numbers.

    Args:
        evaluator: holds the loaded base model.
        adapters: what may be merged; candidates name them by position.
        options: the methods' own options, by method. An option ``reference`` (of GAM) is a position among
            ``adapters``; where it is left out, or names an adapter that a candidate lacks, it is the candidate's
            member that does best by itself at λ = 1 (PDA, footnote 2).
        items: validation items by benchmark, at least two of each.
        scorers: the scorer of each benchmark.
        sampling: how answers are drawn.
        search: what the model may search, and how.
        seed: of the random numbers.
        extra_weights: as in :func:`prefdelta.merging.merge`.
        scored: called after each evaluation.

    Attributes:
        scores: the mean score over benchmarks in [0, 1] of every candidate so far, in the order of trial.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        adapters: Sequence[Adapter],
        *,
        options: Mapping[str, Mapping[str, Any]],
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str],
        sampling: Sampling,
        search: Environment | None = None,
        seed: int = 0,
        extra_weights: Literal["refuse", "drop"] = "refuse",
        scored: Callable[[], None] | None = None,
    ) -> None:
        self.scores: dict[Candidate, float] = {}
        self._answers: dict[Candidate, list[Array]] = {}  # per benchmark, (1, items)
        self._evaluator = evaluator
        self._adapters = adapters
        self._given = options
        self._setting = (items, scorers, sampling, search)
        self._seed = seed
        self._extra_weights: Literal["refuse", "drop"] = extra_weights
        self._scored = scored
        self._last: tuple[Candidate, MemoryAdapter] | None = None

    def __call__(self, candidate: Candidate) -> float:
        """The candidate's score."""
        if candidate not in self.scores:
            score, answers = self._evaluate(self._merged(candidate))
            self.scores[candidate], self._answers[candidate] = score, answers
        return self.scores[candidate]

    def base(self) -> float:
        """The score of the base model as it is."""
        return self._evaluate(None)[0]

    def difference(self, one: Candidate, other: Candidate) -> Difference:
        """How much better ``one`` is than ``other``, paired item by item; both must have been scored."""
        pairs = zip(self._answers[one], self._answers[other], strict=True)
        return paired_difference([left - right for left, right in pairs], unit=1.0)

    def options(self, candidate: Candidate) -> dict[str, Any]:
        """The options that the candidate's method gets, with a ``reference`` counted among its members."""
        given = dict(self._given.get(candidate.method, {}))
        if "reference" not in get_method(candidate.method).options.model_fields:
            return given
        reference = given.get("reference")
        if isinstance(reference, str):
            return given
        if reference not in candidate.members:
            reference = max(candidate.members, key=lambda who: self(Candidate.plain([who], "average", 1.0)))
        return {**given, "reference": candidate.members.index(reference)}

    def _evaluate(self, adapter: MemoryAdapter | None) -> tuple[float, list[Array]]:
        records = self._evaluator.evaluate(adapter, 1.0, *self._setting, seed=self._seed)
        by_task: dict[str, list[float]] = {}
        for record in records:
            by_task.setdefault(record.task, []).append(record.score)
        if self._scored is not None:
            self._scored()
        return domain_score(records), [np.array([scores]) for scores in by_task.values()]

    def _merged(self, candidate: Candidate) -> MemoryAdapter:
        """The merge in memory; scales of one merge that are tried in turn share it."""
        if isinstance(candidate.scale, str):
            return self._merge(candidate, candidate.scale)
        unscaled = Candidate(candidate.members, candidate.weights, candidate.method, 1.0)
        if self._last is None or self._last[0] != unscaled:
            self._last = None  # two merges at a time may be more than memory holds
            self._last = (unscaled, self._merge(unscaled, 1.0))
        return self._last[1].scaled(candidate.scale)

    def _merge(self, candidate: Candidate, scale: Scale) -> MemoryAdapter:
        return merge_in_memory(
            [self._adapters[member] for member in candidate.members],
            method=candidate.method,
            weights=candidate.weights,
            scale=scale,
            options=self.options(candidate),
            extra_weights=self._extra_weights,
        )
