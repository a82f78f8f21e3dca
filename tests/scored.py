"""Small pools of scored answers for the tests of rules and triples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefdelta.core.records import Item, Sample, Score, Span
from prefdelta.pairs.candidates import Candidate, with_scores


def items(count: int) -> list[Item]:
    """Questions i0, i1, ..."""
    return [Item(f"i{number}", "t", ({"role": "user", "content": f"q{number}"},)) for number in range(count)]


def pool(source: str, scores: Mapping[str, Sequence[float]]) -> dict[str, list[Candidate]]:
    """Item id -> candidates with these scores; each text names source, item and index."""
    samples = [
        Sample(item, (Span(f"{source} {item} {index}"),), "stop", 1, index=index)
        for item, found in scores.items()
        for index in range(len(found))
    ]
    rows = [Score(item, index, score) for item, found in scores.items() for index, score in enumerate(found)]
    return with_scores(source, samples, rows)
