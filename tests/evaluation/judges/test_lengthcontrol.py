"""The length-control model against scikit-learn's own cross-validation, and on data whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prefdelta.cli.judge import sentence
from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.judges.gamed import gamed_file, read_gamed
from prefdelta.evaluation.judges.lengthcontrol import GamedRows, length_controlled

sklearn = pytest.importorskip("sklearn")


def made_up(items: int, theta: float, phi: float, seed: int = 0) -> tuple[list[float], list[int], list[int]]:
    rng = np.random.default_rng(seed)
    ours, theirs = rng.integers(100, 3000, items), rng.integers(100, 3000, items)
    gap = theirs - ours
    p = 1 / (1 + np.exp(-(theta + phi * np.tanh(gap / gap.std(ddof=1)))))
    return p.tolist(), ours.tolist(), theirs.tolist()


def test_the_truth_is_found() -> None:
    found = length_controlled(*made_up(400, theta=-0.4, phi=-1.5))
    assert found.coefficients["model"] == pytest.approx(-0.4, abs=0.02)
    assert found.coefficients["length"] == pytest.approx(-1.5, abs=0.03)
    assert found.win_rate == pytest.approx(100 / (1 + np.exp(0.4)), abs=0.5)


def test_long_answers_gain_nothing() -> None:
    """A model as good as the baseline that writes longer wins more than half, and half at equal length."""
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(1500, 3000, 300), rng.integers(200, 1700, 300)
    gap = theirs - ours
    p = 1 / (1 + np.exp(1.2 * np.tanh(gap / gap.std(ddof=1))))
    found = length_controlled(p.tolist(), ours.tolist(), theirs.tolist())
    assert p.mean() > 0.6
    assert found.win_rate == pytest.approx(50, abs=2)


@pytest.mark.filterwarnings("ignore")
def test_the_fit_is_that_of_scikit_learns_cross_validation() -> None:
    """The reference's way to fit, soft labels through metadata routing, gives the same coefficients."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import GroupKFold

    rng = np.random.default_rng(2)
    _, ours, theirs = made_up(120, 0, 0)
    p = rng.beta(0.3, 0.6, 120)
    gap = np.array(theirs) - np.array(ours)
    design = np.column_stack([np.tanh(gap / gap.std(ddof=1)), np.ones(120)])

    def soft_loss(outcome, predicted, true_prob):  # type: ignore[no-untyped-def]
        win = np.where(outcome == 1, true_prob, 1 - true_prob)
        return -np.mean(win * np.log(predicted) + (1 - win) * np.log(1 - predicted))

    probability = np.concatenate([p, 1 - p])
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(soft_loss, response_method="predict_proba", greater_is_better=False)
        model = LogisticRegressionCV(
            cv=GroupKFold(5), scoring=scorer.set_score_request(true_prob=True), l1_ratios=(1.0,), random_state=123,
            solver="liblinear", fit_intercept=False, Cs=10,
        )  # fmt: skip
        model.set_fit_request(sample_weight=True)
        model.fit(
            np.vstack([design, design]),
            np.repeat([1, 0], 120),
            sample_weight=probability,
            groups=np.tile(np.arange(120), 2),
            true_prob=probability,
        )
    found = length_controlled(p.tolist(), ours, theirs)
    assert [found.coefficients["length"], found.coefficients["model"]] == pytest.approx(model.coef_[0], rel=1e-6)


def test_gamed_rows_hold_the_length_coefficient() -> None:
    """Rows of which the model had no part, and length all, pull phi towards theirs."""
    data = made_up(150, theta=-1.0, phi=-2.0)
    gap = np.random.default_rng(3).normal(size=2000)
    gamed = GamedRows(1 / (1 + np.exp(0.5 * np.tanh(gap))), gap, np.zeros(2000))
    free, held = length_controlled(*data), length_controlled(*data, gamed=gamed, difficulties=[0.0] * 150)
    assert -2.1 < free.coefficients["length"] < -1.8
    assert free.coefficients["length"] + 0.3 < held.coefficients["length"] < -0.5


def test_difficulties_are_predicted_over() -> None:
    rng = np.random.default_rng(4)
    _, ours, theirs = made_up(300, 0, 0)
    gamma = rng.normal(size=300)
    p = 1 / (1 + np.exp(-(-0.5 + 0.9 * gamma)))
    found = length_controlled(p.tolist(), ours, theirs, difficulties=gamma.tolist())
    assert found.coefficients["difficulty"] == pytest.approx(0.9, abs=0.02)
    assert found.win_rate == pytest.approx(100 * p.mean(), abs=0.5)
    assert found.standard_error == pytest.approx(100 * p.std(ddof=1) / np.sqrt(300), abs=0.1)


def test_equal_lengths_everywhere() -> None:
    found = length_controlled([0.8] * 40, [100] * 40, [100] * 40)
    assert found.win_rate == pytest.approx(80, abs=1)


def test_too_few_items() -> None:
    with pytest.raises(PrefdeltaError, match="at least 5 judged items"):
        length_controlled([0.5] * 4, [1] * 4, [2] * 4)


def test_published_gamed_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "df_gamed.csv"
    path.write_text(
        "preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline,model\n"
        "0.25,0,1.5,-0.5,False,a\n,1,0.5,0.75,False,a\n0.5,0,-1.5,-0.5,False,b\n"
    )
    gamed, difficulties = read_gamed(path, 2)
    assert gamed.preferences.tolist() == [0.25, 0.5]
    assert gamed.lengths.tolist() == [1.5, -1.5]
    assert difficulties.tolist() == [-0.5, 0.75]
    with pytest.raises(PrefdeltaError, match="about 2 questions and the baseline answers 805"):
        read_gamed(path, 805)
    with pytest.raises(PrefdeltaError, match="cannot read the gamed baselines"):
        read_gamed(tmp_path / "none.csv", 2)
    for row in ("0.25,1,1.5,", "0.25,1,,0.5", "1.25,1,1.5,0.5"):
        path.write_text(f"preference,index,std_delta_len,instruction_difficulty\n0.25,0,1.5,-0.5\n{row}\n")
        with pytest.raises(PrefdeltaError, match="a preference is not from 0 to 1, or a length or a difficulty"):
            read_gamed(path, 2)
    path.write_text(json.dumps([{"instruction": "x" * 200_000}]))  # the baseline's file in place of this one
    with pytest.raises(PrefdeltaError, match="cannot read the gamed baselines"):
        read_gamed(path, 2)


def test_a_fit_that_the_penalty_empties_gives_no_rate() -> None:
    """Forty coin tosses: nothing of the model is left, and exactly 50 % would be no finding."""
    rng = np.random.default_rng(5)
    p, ours, theirs = rng.random(40), rng.integers(200, 900, 40), rng.integers(200, 900, 40)
    found = length_controlled(p.tolist(), ours.tolist(), theirs.tolist())
    assert not found.fitted
    assert found.win_rate == 50
    assert length_controlled(*made_up(400, theta=-0.4, phi=-1.5)).fitted
    summary = {
        "model": "ours",
        "opponent": "theirs",
        "judge": "judge",
        "scores": {
            "win_rate": 52.0,
            "low": 40.0,
            "high": 64.0,
            "items": 40,
            "length_controlled": {"variant": "length_controlled_minimal", "win_rate": None},
        },
    }
    said = sentence(summary)
    assert "in 52.0 % [95 % CI 40.0 to 64.0] of 40 questions" in said
    assert said.endswith(
        "; no rate at equal length can be given, because the fit's penalty leaves nothing with 40 questions."
    )
    summary["scores"]["length_controlled"]["win_rate"] = 48.0  # type: ignore[index]
    assert sentence(summary).endswith("without AlpacaEval's difficulties: no number to hold against its leaderboard).")


def test_the_published_file_that_cannot_be_fetched_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PrefdeltaError, match=r"cannot fetch df_gamed\.csv of tatsu-lab/alpaca_eval .*give its path"):
        gamed_file("hub")
    assert gamed_file("here.csv") == Path("here.csv")
