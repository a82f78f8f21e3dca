"""Which answers are shown, and the model card."""

from __future__ import annotations

import yaml

from prefdelta.report import model_card, pick_transcripts
from report_sample import items, outcome, sample

RUN = sample()


def test_transcripts_take_turns_among_tasks_and_end_with_a_failure() -> None:
    records = outcome("reasoning", (0,)).records
    shown = pick_transcripts(items("reasoning"), records["student", 0], records["average@3", 0], count=4)
    assert [entry.task for entry in shown[:3]] == ["chain", "story", "verify"]
    assert all(entry.merged.score == 1 and entry.student.score == 0 for entry in shown[:3])
    assert shown[3].merged.score == 0
    assert all(entry.student.item == entry.merged.item == entry.item for entry in shown)


def test_transcripts_do_not_depend_on_the_order_of_records() -> None:
    records = outcome("search", (0,)).records
    student, merged = records["student", 0], records["average@3", 0]
    assert pick_transcripts(items("search"), student[::-1], merged[::-1]) == pick_transcripts(
        items("search"), student, merged
    )


def test_without_a_win_only_a_failure_is_shown() -> None:
    student = outcome("search", (0,)).records["student", 0]
    shown = pick_transcripts(items("search"), student, student)
    assert [entry.merged.score for entry in shown] == [0.0]


def test_card_has_front_matter_scores_and_lineage() -> None:
    domain = RUN.results.domains["reasoning"]
    card = model_card("sample", "reasoning", domain, RUN.lineage["reasoning"])
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "peft"
    assert "base_model" not in front  # an embedded model is no Hub id
    score = domain.methods["average@3"].tasks["story"].score
    assert f"| story | {domain.methods['student'].tasks['story'].score:.1f} | {score:.1f} |" in card
    for delta in RUN.lineage["reasoning"].deltas:
        assert delta.weaker.hash[:10] in card
    assert "merged by `average` at scale 3" in card
