"""What is told of a set of triples."""

from __future__ import annotations

from prefdelta.core.records import Item, Sample, Score, Span
from prefdelta.pairs.candidates import Candidate, best_of_sources, with_scores
from prefdelta.pairs.triple_card import triple_card, triple_summary
from prefdelta.pairs.triples import make_triples

ITEMS = [Item(f"q{number}", "t", ({"role": "user", "content": "?"},)) for number in range(3)]


def pool(label: str, scores: dict[str, list[float]], tokens: int) -> dict[str, list[Candidate]]:
    samples = [
        Sample(item, (Span(f"{label} {item} {index}"),), "stop" if index else "length", tokens + index, index=index)
        for item, values in scores.items()
        for index in range(len(values))
    ]
    rows = [Score(item, index, value) for item, values in scores.items() for index, value in enumerate(values)]
    return with_scores(label, samples, rows)


def test_the_means_are_those_of_the_chosen_answers() -> None:
    sources = [
        pool("near", {"q0": [1.0, 5.0], "q1": [2.0, 0.0]}, 10),
        pool("far", {"q0": [3.0, 4.0], "q1": [9.0, 1.0]}, 30),
    ]
    own = pool("student", {"q0": [0.0, 2.0], "q1": [4.0, -4.0], "q2": [1.0, 0.0]}, 5)
    triples, counts = make_triples(ITEMS, sources, own)
    summary = triple_summary(triples, best_of_sources(ITEMS, sources), own)
    assert summary["best_source"] == {"far": 1, "near": 1}
    assert summary["roles"] == {
        "source": {"score": 7.0, "tokens": 20.5, "ended": 0.5},
        "target": {"score": 3.0, "tokens": 5.5, "ended": 0.5},
        "rejected": {"score": -2.0, "tokens": 5.5, "ended": 0.5},
    }
    card = triple_card(counts, summary, {"sources": ["near", "far"]})
    assert "| **triples** | 2 |" in card
    assert "| dropped: not answered by both sides | 1 |" in card
    assert "| score, mean | 7.000 | 3.000 | -2.000 |" in card
    assert '"near"' in card
