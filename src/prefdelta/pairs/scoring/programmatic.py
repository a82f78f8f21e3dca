"""Scores by rule: an answer is compared with the item's gold answers, as in a benchmark. No model judges."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Sample
from prefdelta.core.registry import find_configured
from prefdelta.evaluation.scoring import SCORERS
from prefdelta.recipe import Named

_AT_ONCE = 1024


class ProgrammaticScorer:
    """One of the benchmarks' scorers, such as ``exact-match``, with its options.

    Raises:
        PrefdeltaError: there is no scorer of that name, or it has no such option.
    """

    def __init__(self, scorer: Named | str) -> None:
        self._named = Named.model_validate(scorer)
        self._score, self._options = find_configured(SCORERS, self._named)
        self.together = 1

    def describe(self) -> Mapping[str, Any]:
        """The scorer's name, and its options if any are given."""
        options = {"options": self._named.options} if self._named.options else {}
        return {"scorer": self._named.name, **options}

    def stream(
        self, answers: Sequence[tuple[Item, Sample]], done: Container[int] = ()
    ) -> Iterator[list[tuple[int, float]]]:
        """Scores in [0, 1].

        Raises:
            PrefdeltaError: an item has no gold answer.
        """
        for start in range(0, len(answers), _AT_ONCE):
            found = []
            for place, (item, sample) in enumerate(answers[start : start + _AT_ONCE], start):
                if not item.answers:
                    raise PrefdeltaError(
                        f"the item {item.id!r} has no gold answer; {self._named.name} needs one to compare."
                    )
                found.append((place, self._score(sample, item.answers, self._options).value))
            yield found
