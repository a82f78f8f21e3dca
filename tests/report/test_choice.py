"""What a report says of how a merge was chosen."""

from __future__ import annotations

from typing import Any

import pytest

from prefdelta.evaluation.results import Domain, Guard
from prefdelta.recipe import By
from prefdelta.report.choice import choice_sentences, scale_rows
from report_sample import sample

CHOSEN = sample().results.domains["reasoning"]


def domain(by: By, *, summary: dict[str, Any] | None = None, **selection: Any) -> Domain:
    changed = CHOSEN.selection.model_copy(update={"by": by, **selection})
    return CHOSEN.model_copy(update={"selection": changed, "summary": CHOSEN.summary.model_copy(update=summary or {})})


@pytest.mark.parametrize("by", ["agreement", "pairs"])
def test_without_labels_it_says_so_and_how_single_deltas_were_treated(by: By) -> None:
    said = " ".join(choice_sentences(domain(by)))
    assert "no labelled validation item was used" in said
    assert "Single deltas got their best λ by labels" in said
    assert "validation item" not in " ".join(choice_sentences(domain("labels"))[1:])


def test_doubts_are_told() -> None:
    best = CHOSEN.summary.best_merge
    said = choice_sentences(domain("agreement", ranges={best.name: (2.0, 4.0)}, at_edge=[best.name], ties=["gam"]))
    assert f"λ from 2 to 4 cannot be told from λ = {best.scale:g} by these items." in said
    assert f"λ = {best.scale:g} is the edge of what was tried, so the best λ was not found: it may lie beyond." in said
    assert f"Nor can gam be told from {best.name}, each at its own best λ." in said
    flat = choice_sentences(domain("agreement", ranges={best.name: (1.0, 8.0)}, flat=[best.name]))
    assert any(sentence.startswith(f"Cannot tell: no scale of {best.name}") for sentence in flat)


def test_the_labelled_choice_and_the_guard_stand_beside_it() -> None:
    best = CHOSEN.summary.best_merge
    guard = Guard(kl=0.5, kl_limit=2.0, unparsed=1.0, unparsed_base=0.5, warnings=["look at the answers."])
    same = choice_sentences(domain("agreement", summary={"labelled_merge": best}, guard=guard))
    assert "Labels would have chosen the same." in same
    assert "Warning: look at the answers." in same
    assert any("0.5 nats a token away from the student (limit 2)" in sentence for sentence in same)
    gain = CHOSEN.summary.gain_over_student
    other = choice_sentences(domain("agreement", summary={"labelled_merge": best, "over_labelled_merge": gain}))
    assert any(gain.text in sentence and best.name in sentence for sentence in other)


def test_rows_are_the_chosen_scales() -> None:
    rows = {row.name: row for row in scale_rows(CHOSEN.selection)}
    assert set(rows) == set(CHOSEN.selection.best_scale)
    for name, row in rows.items():
        assert row.signal == CHOSEN.selection.scores[name][f"{row.scale:g}"]
        assert row.by_labels is None
