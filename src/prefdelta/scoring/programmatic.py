"""Scores by rule: an answer is compared with the item's gold answers, as in a benchmark. No model judges."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from prefdelta.errors import PrefdeltaError, did_you_mean
from prefdelta.evaluation.scoring import SCORERS
from prefdelta.records import Item, Sample

_AT_ONCE = 1024


class ProgrammaticScorer:
    """One of the benchmarks' scorers: ``exact-match``, ``final-number``, ``choice`` or ``token-f1``.

    Raises:
        PrefdeltaError: there is no scorer of that name.
    """

    def __init__(self, name: str) -> None:
        if name not in SCORERS:
            raise PrefdeltaError(f"no scorer is called {name!r}; {did_you_mean(name, SCORERS)}")
        self._name = name

    def describe(self) -> Mapping[str, Any]:
        """The scorer's name."""
        return {"scorer": self._name}

    def stream(
        self, answers: Sequence[tuple[Item, Sample]], done: Container[int] = ()
    ) -> Iterator[list[tuple[int, float]]]:
        """Scores in [0, 1].

        Raises:
            PrefdeltaError: an item has no gold answer.
        """
        score = SCORERS[self._name]
        for start in range(0, len(answers), _AT_ONCE):
            found = []
            for place, (item, sample) in enumerate(answers[start : start + _AT_ONCE], start):
                if not item.answers:
                    raise PrefdeltaError(f"the item {item.id!r} has no gold answer; {self._name} needs one to compare.")
                found.append((place, score(sample, item.answers).value))
            yield found
