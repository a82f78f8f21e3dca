"""Style control on battles whose truth is known. The reference's code cannot serve as an oracle: with one kind of
feature it crashes or returns nonsense."""

from __future__ import annotations

import numpy as np
import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.judges.style import Battles, style_controlled, style_difference


def battles(
    strengths: dict[str, float], beta: tuple[float, ...], items: int = 1500, shift: float = 0.0, seed: int = 0
) -> Battles:
    """Two games a question, outcomes drawn from the model that is fitted."""
    rng = np.random.default_rng(seed)
    styles = rng.normal(shift, 1, (len(strengths) * items, 4))
    models = np.repeat(list(strengths), items)
    logit = np.repeat(list(strengths.values()), items) + styles @ np.array(beta)
    outcomes = (rng.random((2, logit.size)) < 1 / (1 + np.exp(-logit))).astype(float)
    names = [str(number) for _ in strengths for number in range(items)]
    return Battles(
        models=[*models, *models],
        items=[*names, *names],
        outcomes=outcomes.ravel(),
        weights=np.ones(outcomes.size),
        styles=np.vstack([styles, styles]),
    )


def fit(data: Battles, **options: object):  # type: ignore[no-untyped-def]
    return style_controlled(data, generator=np.random.default_rng(0), **options)  # type: ignore[arg-type]


def test_the_truth_is_found() -> None:
    found = fit(battles({"one": 0.5, "two": -1.0}, (1.0, 0.0, 0.3, 0.0)))
    for name, strength in (("one", 0.5), ("two", -1.0)):
        score, low, high = found.scores[name]
        assert low < 100 / (1 + np.exp(-strength)) < high
        assert high - low < 6
        assert low < score < high
    assert found.coefficients["length"] == pytest.approx(1.0, abs=0.1)
    assert found.coefficients["headers"] == pytest.approx(0.0, abs=0.1)
    assert found.coefficients["lists"] == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("features", [("length",), ("headers", "lists", "bold"), ("bold",)])
def test_any_choice_of_features_works(features: tuple[str, ...]) -> None:
    beta = tuple(0.8 * (name in features) for name in ("length", "headers", "lists", "bold"))
    found = fit(battles({"one": 0.7}, beta), features=features)
    assert found.scores["one"][0] == pytest.approx(100 / (1 + np.exp(-0.7)), abs=3)
    assert set(found.coefficients) == set(features)


def test_style_is_taken_out_at_equal_style_and_not_at_the_average() -> None:
    """A model as good as the baseline that writes longer: at equal length it is even. Centred features, as the
    reference has them, compare at the model's own average length and so take nothing out."""
    data = battles({"wordy": 0.0}, (1.5, 0, 0, 0), shift=1.0)
    raw = 100 * data.outcomes.mean()
    assert raw > 70
    assert fit(data).scores["wordy"][0] == pytest.approx(50, abs=5)
    centred = Battles(data.models, data.items, data.outcomes, data.weights, data.styles - data.styles.mean(axis=0))
    assert fit(centred).scores["wordy"][0] > 70


def test_without_features_it_is_the_weighted_win_rate() -> None:
    data = battles({"one": 0.4}, (0, 0, 0, 0), items=200)
    weights = np.where(np.arange(400) % 3 == 0, 3.0, 1.0)
    data = Battles(data.models, data.items, data.outcomes, weights, data.styles)
    expected = 100 * (weights * data.outcomes).sum() / weights.sum()
    assert fit(data, features=()).scores["one"][0] == pytest.approx(expected, abs=1e-3)


def test_the_interval_is_of_questions_not_of_games() -> None:
    """Both games of a question always agree here; counting them as independent would be narrower by 1.4."""
    data = battles({"one": 0.0}, (0, 0, 0, 0), items=400)
    half = data.outcomes[:400]
    twice = Battles(data.models, data.items, np.concatenate([half, half]), data.weights, data.styles)
    _, low, high = fit(twice, features=(), resamples=600).scores["one"]
    assert high - low == pytest.approx(2 * 1.96 * 100 * 0.5 / np.sqrt(400), rel=0.12)


def test_a_model_that_always_wins_has_a_finite_score() -> None:
    data = battles({"one": 0.0}, (0, 0, 0, 0), items=30)
    always = Battles(data.models, data.items, np.ones(60), data.weights, data.styles)
    score, low, high = fit(always).scores["one"]
    assert 99 < score <= 100
    assert np.isfinite([low, high]).all()


def test_an_unknown_feature_is_refused() -> None:
    with pytest.raises(PrefdeltaError, match="no style feature 'markdown'"):
        fit(battles({"one": 0.0}, (0, 0, 0, 0), items=5), features=("markdown",))


def test_style_difference() -> None:
    ours = "# Title\n\n- one\n- two\n1. three\n**bold** and __bold__\n```\n# no header\n- no item\n```\n"
    theirs = "plain words only"
    assert style_difference(theirs, theirs).tolist() == [0, 0, 0, 0]
    assert style_difference("", "").tolist() == [0, 0, 0, 0]
    found = style_difference(ours, theirs, (99, 19))
    densities = np.array([1, 3, 2]) / 100
    assert found == pytest.approx([80 / 118, *(densities / (densities + 1))])
    assert style_difference(theirs, ours) == pytest.approx(-style_difference(ours, theirs))
