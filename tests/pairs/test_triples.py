"""WRPO's triples against a direct reading of their definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Sample, Score
from prefdelta.pairs.candidates import best, best_of_sources, with_scores, worst
from prefdelta.pairs.triples import make_triples
from scored import items, pool

_SCORES = st.lists(st.integers(0, 3).map(float), max_size=4)


@given(st.lists(st.tuples(_SCORES, _SCORES, _SCORES), min_size=1, max_size=5), st.integers(0, 2), st.booleans())
def test_triples_are_what_the_definition_says(
    rows: list[tuple[list[float], list[float], list[float]]], gap: int, ahead: bool
) -> None:
    asked = items(len(rows))
    first, second, own = ({item.id: row[side] for item, row in zip(asked, rows, strict=True)} for side in range(3))
    expected = []
    for item in asked:
        sources = [(score, "a", index) for index, score in enumerate(first[item.id])]
        sources += [(score, "b", index) for index, score in enumerate(second[item.id])]
        mine = list(enumerate(own[item.id]))
        if not sources or not mine:
            continue
        # The highest score, then the earlier source, then the lower index; the lowest score, then the higher index.
        top = min(sources, key=lambda entry: (-entry[0], entry[1], entry[2]))
        good, bad = min(mine, key=lambda e: (-e[1], e[0])), min(mine, key=lambda e: (e[1], -e[0]))
        if good[1] == bad[1] or good[1] - bad[1] < gap or (ahead and top[0] < good[1]):
            continue
        expected.append((item.id, f"{top[1]} {item.id} {top[2]}", good[0], bad[0]))
    pools = [pool("a", first), pool("b", second)]
    if not expected:
        with pytest.raises(PrefdeltaError, match=f"no triple is left of {len(rows)} items"):
            make_triples(asked, pools, pool("own", own), min_gap=gap, source_ahead=ahead)
        return
    triples, counts = make_triples(asked, pools, pool("own", own), min_gap=gap, source_ahead=ahead)
    assert [(row.id, row.source.text, row.target.index, row.rejected.index) for row in triples] == expected
    assert counts.triples == len(expected)
    lost = counts.missing + counts.tied + counts.identical + counts.small_gap + counts.source_behind
    assert counts.items == counts.triples + lost


def test_each_item_is_counted_where_it_was_lost() -> None:
    sources = pool("a", {"i0": [9], "i1": [9], "i2": [9], "i3": [0], "i4": [9], "i5": [2]})
    own = pool("own", {"i0": [1, 0], "i1": [1, 1], "i2": [1, 0.9], "i3": [5, 1], "i5": [2, 1]})
    same = own["i0"]
    own["i0"] = [replace(entry, sample=replace(entry.sample, spans=same[0].sample.spans)) for entry in same]
    triples, counts = make_triples(items(6), [sources], own, min_gap=0.5, source_ahead=True)
    assert [row.id for row in triples] == ["i5"]
    assert (counts.identical, counts.tied, counts.small_gap, counts.source_behind, counts.missing) == (1, 1, 1, 1, 1)
    assert counts.source_ahead == 0


def test_ties_go_to_the_first_and_the_last() -> None:
    found = pool("a", {"i0": [1, 1, 0, 0]})["i0"]
    assert (best(found).sample.index, worst(found).sample.index) == (0, 3)
    tied = [pool("b", {"i0": [1]}), pool("a", {"i0": [1]})]
    assert best_of_sources(items(2), tied)["i0"].source == "b"
    assert list(best_of_sources(items(2), tied)) == ["i0"]


def test_every_answer_needs_one_score() -> None:
    samples = [Sample("i0", (), "stop", 0, index=index) for index in range(2)]
    with pytest.raises(PrefdeltaError, match=r"answer 1 of weak .* no score"):
        with_scores("weak", samples, [Score("i0", 0, 1.0)])
    with pytest.raises(PrefdeltaError, match="scored twice"):
        with_scores("weak", samples, [Score("i0", 0, 1.0)] * 2)
    with pytest.raises(PrefdeltaError, match="twice with index 0"):
        with_scores("weak", samples[:1] * 2, [Score("i0", 0, 1.0)])
