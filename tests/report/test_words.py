"""Sentences must say what the numbers say, whichever way a run went."""

from __future__ import annotations

import pytest

from prefdelta.report import words
from report_sample import sample


def difference(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high}


@pytest.mark.parametrize(
    ("value", "said"), [(4.04, "+4.0"), (-1.26, "−1.3"), (0.0, "0.0"), (-0.01, "0.0"), (0.04, "0.0")]
)
def test_signed(value: float, said: str) -> None:
    assert words.signed(value) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 2, "above"), (-2, -0.1, "below"), (-1, 1, "level"), (0, 1, "level"), (0, 0, "level")],
)
def test_verdict(low: float, high: float, said: str) -> None:
    assert words.verdict(difference(0, low, high)) == said


def test_headline_of_a_gain() -> None:
    results = sample().results
    summary = results["summary"]
    said = words.headline(results)
    assert said.startswith("On average over the domains, four weak deltas, none above ")
    assert f"none above {summary['best_single']['score']:.1f}\N{NO-BREAK SPACE}%" in said
    assert f"merge to {summary['best_merge']['score']:.1f}\N{NO-BREAK SPACE}%" in said
    assert words.signed(summary["gain_over_best_single"]["mean"]) + " points over the best single delta" in said
    assert "loss" not in said
    assert "not distinguishable" not in said


def test_headline_of_one_domain_does_not_speak_of_an_average() -> None:
    assert words.headline(sample(domains=("search",)).results).startswith("Four weak deltas, none above")


@pytest.mark.parametrize(("shift", "said"), [(-0.6, "a loss"), (-0.27, "not distinguishable from no gain")])
def test_headline_of_no_gain(shift: float, said: str) -> None:
    assert said in words.headline(sample(shift=shift).results)


def test_control_readings_follow_the_sign() -> None:
    at = {mean: difference(mean, mean - 1, mean + 1) for mean in (-5, 0, 5)}
    below, level, above = (words.control_reading("shuffled", {1.0: at[mean]}) for mean in (-5, 0, 5))
    assert len({below, level, above}) == 3
    assert words.control_reading("shuffled", {1.0: at[0], 4.0: at[5]}) == above  # help at any scale is help
    assert words.control_reading("shuffled", {0.5: at[0], 1.0: at[-5]}) == below
    assert words.control_reading("another", {1.0: at[5]}) == ""
