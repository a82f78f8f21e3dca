"""Scores of candidate merges, each made in memory and measured once on a base model that stays loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from prefdelta.adapters import Adapter, LoraAdapter, MemoryAdapter
from prefdelta.core.records import digest
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.statistics import Array, Difference, paired_difference
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.merging.registry import get_method
from prefdelta.merging.scale import Scale
from prefdelta.merging.tuning.candidate import Candidate
from prefdelta.merging.tuning.choice import Choice, choose
from prefdelta.merging.tuning.objectives import Information, Measured, Objective


class Validation:
    """Scores candidates, each once: merges in memory and measures the result on the model.

    Args:
        objective: what is measured; the same items with the same random numbers for all candidates.
        adapters: what may be merged; candidates name them by position.
        options: the methods' own options, by method. An option ``reference`` (of GAM) is a position among
            ``adapters``; where it is left out, or names an adapter that a candidate lacks, it is the candidate's
            member that does best by itself at λ = 1 (PDA, footnote 2).
        extra_weights: as in :func:`prefdelta.merging.merge`.
        scored: called after each evaluation.
        kept: what was measured by an earlier run of the same objective on the same adapters; it is added to.

    Attributes:
        measured: what the objective says of every candidate so far, in the order of trial.
    """

    def __init__(
        self,
        objective: Objective,
        adapters: Sequence[Adapter],
        *,
        options: Mapping[str, Mapping[str, Any]],
        extra_weights: Literal["refuse", "drop"] = "refuse",
        scored: Callable[[], None] | None = None,
        kept: ResumableRows | None = None,
    ) -> None:
        self.measured: dict[Candidate, Measured] = {}
        self._objective = objective
        self._adapters = adapters
        self._given = options
        self._extra_weights: Literal["refuse", "drop"] = extra_weights
        self._scored = scored
        self._kept = kept
        self._base: Measured | None = None
        self._last: tuple[Candidate, MemoryAdapter] | None = None

    def __call__(self, candidate: Candidate) -> float:
        """The candidate's score."""
        if candidate not in self.measured:
            key = digest([candidate, self.options(candidate), self._extra_weights])
            self.measured[candidate] = self._measure(key, lambda: self.merged(candidate))
        return self.measured[candidate].score

    def norm_matched(self, candidate: Candidate) -> float:
        r"""λ₀ = Σᵢ‖ΔWᵢ‖ / (N ‖M‖) of the candidate's merge M at λ = 1: there it is as long as its mean member.

        Norms are those of all modules together. 1 where M or all members are zero.
        """
        members = [_norm(self._adapters[member]) for member in candidate.members]
        own = _norm(self.merged(candidate.at(1.0)))
        return sum(members) / len(members) / own if own and any(members) else 1.0

    def base(self) -> Measured:
        """The measure of the base model as it is."""
        if self._base is None:
            self._base = self._measure("base", lambda: None)
        return self._base

    def shared(self, candidate: Candidate) -> list[Array] | None:
        """Information that a candidate's answers share with the base's, by benchmark; ``None`` by other measures."""
        base, own = self.base().answers, self.measured[candidate].answers
        if not isinstance(self._objective, Information) or base is None or own is None:
            return None
        return self._objective.shared(base, own)

    def difference(self, one: Candidate, other: Candidate) -> Difference:
        """How much better ``one`` is than ``other``, paired item by item; both must have been scored."""
        pairs = zip(self.measured[one].by_item, self.measured[other].by_item, strict=True)
        return paired_difference([left - right for left, right in pairs], unit=self._objective.unit)

    def choice(self, among: Collection[Candidate]) -> Choice[Candidate]:
        """The best of some that were scored, the first of equals, and what the items cannot tell from it."""
        scores = {candidate: self.measured[candidate].score for candidate in among}
        items = {candidate: self.measured[candidate].by_item for candidate in among}
        return choose(scores, Candidate.place, items, unit=self._objective.unit)

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

    def _measure(self, key: str, merged: Callable[[], MemoryAdapter | None]) -> Measured:
        """What was kept under the key, or what the objective says of the merge, which is only then made."""
        if self._kept is not None and key in self._kept.found:
            measured = Measured.read(self._kept.found[key])
        else:
            measured = self._objective(merged())
            if self._kept is not None:
                self._kept.add([(key, measured.plain())])
        if self._scored is not None:
            self._scored()
        return measured

    def merged(self, candidate: Candidate) -> MemoryAdapter:
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


def _norm(adapter: LoraAdapter) -> float:
    return math.hypot(*(adapter.load(module).norm() for module in adapter.modules))
