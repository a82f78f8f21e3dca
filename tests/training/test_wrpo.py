"""WRPO: its limits, what cancels, and its schedule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from prefdelta.recipe import Training
from prefdelta.training.objectives import OBJECTIVES, Loss, Scores, loss_of
from prefdelta.training.objectives.wrpo import alpha_at

TRIPLES = [name for name, objective in OBJECTIVES.items() if len(objective.responses) == 3]
WEIGHTED = {"wrpo": "dpo", "wrpo-norm": "dpo-norm", "wrpo-ipo": "ipo", "wrpo-simpo": "simpo"}
VALUES = st.lists(st.floats(-50, -0.1), min_size=6, max_size=6)
ALPHA = st.floats(0, 1)


def _loss(name: Any, **options: Any) -> Loss:
    return loss_of(Training(objective=name, **options))


def _scores(values: list[float], lengths: tuple[int, int, int] = (3, 5, 2)) -> Scores:
    logps, reference = torch.tensor(values, dtype=torch.float64).view(2, 3, 1)
    return Scores(logps, torch.tensor(lengths)[:, None], reference)


def _pair(scores: Scores, preferred: int) -> Scores:
    assert scores.reference is not None
    return Scores(scores.logps[[preferred, 2]], scores.lengths[[preferred, 2]], scores.reference[[preferred, 2]])


def _gradient(loss: Loss, scores: Scores) -> Tensor:
    logps = scores.logps.clone().requires_grad_()
    loss(Scores(logps, scores.lengths, scores.reference)).loss.sum().backward()
    assert logps.grad is not None
    return logps.grad


@pytest.mark.parametrize("name", WEIGHTED)
@given(values=VALUES, beta=st.floats(0.01, 2))
def test_alpha_0_is_the_pair_of_the_target_and_alpha_1_that_of_the_source(
    name: str, values: list[float], beta: float
) -> None:
    scores, pairwise = _scores(values), _loss(WEIGHTED[name], beta=beta)
    for alpha, preferred in ((0.0, 1), (1.0, 0)):
        loss = _loss(name, beta=beta, alpha=alpha)
        torch.testing.assert_close(loss(scores).loss, pairwise(_pair(scores, preferred)).loss)
        gradient = _gradient(loss, scores)
        torch.testing.assert_close(gradient[[preferred, 2]], _gradient(pairwise, _pair(scores, preferred)))
        assert float(gradient[1 - preferred].abs()) == 0.0


@given(values=VALUES)
def test_two_losses_are_the_mean_of_two_dpo_losses(values: list[float]) -> None:
    scores, dpo = _scores(values), _loss("dpo", beta=0.01)
    expected = (dpo(_pair(scores, 0)).loss + dpo(_pair(scores, 1)).loss) / 2
    torch.testing.assert_close(_loss("wrpo-two-loss")(scores).loss, expected)


@given(values=VALUES, alpha=ALPHA)
def test_the_gradient_is_the_published_one(values: list[float], alpha: float) -> None:
    """``-β σ(-u) [ α ∇log π(y_ws) + (1-α) ∇log π(y_wt) - ∇log π(y_l) ]``."""
    scores, beta = _scores(values), 0.3
    ratios = scores.ratios
    margin = beta * (alpha * ratios[0] + (1 - alpha) * ratios[1] - ratios[2])
    expected = -beta * torch.sigmoid(-margin) * torch.tensor([alpha, 1 - alpha, -1.0], dtype=torch.float64)
    torch.testing.assert_close(_gradient(_loss("wrpo", beta=beta, alpha=alpha), scores).flatten(), expected.flatten())


@given(values=VALUES, alphas=st.tuples(ALPHA, ALPHA))
def test_with_two_equal_preferred_answers_alpha_does_not_matter(
    values: list[float], alphas: tuple[float, float]
) -> None:
    values[1], values[4] = values[0], values[3]
    scores = _scores(values, (4, 4, 2))
    for name in WEIGHTED:
        one, other = (_loss(name, alpha=alpha)(scores).loss for alpha in alphas)
        torch.testing.assert_close(one, other)


@given(values=VALUES, alpha=ALPHA, prefix=st.floats(-30, -0.1), old=st.floats(-30, -0.1))
def test_a_prefix_that_all_answers_share_cancels(values: list[float], alpha: float, prefix: float, old: float) -> None:
    scores, loss = _scores(values), _loss("wrpo", beta=0.5, alpha=alpha)
    assert scores.reference is not None
    longer = Scores(scores.logps + prefix, scores.lengths + 3, scores.reference + old)
    torch.testing.assert_close(loss(longer).loss, loss(scores).loss)


@given(steps=st.integers(-2, 200), most=st.floats(0, 1))
def test_the_schedule_rises_from_0_to_its_end(steps: int, most: float) -> None:
    alphas = [alpha_at(step, steps, alpha=most, schedule="linear") for step in range(-1, max(steps, 1) + 3)]
    assert alphas[:2] == [0.0, 0.0]
    assert alphas[-2:] == [most, most]
    assert alphas == sorted(alphas)
    assert alpha_at(0, steps, alpha=most, schedule="constant") == most


def test_the_schedule_is_a_line_over_all_steps() -> None:
    loss = _loss("wrpo", alpha=0.4)
    assert [loss.at(step, 4).options.source_weight for step in range(5)] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert _loss("wrpo-two-loss").at(1, 4).options.source_weight is None


def test_the_papers_settings_are_the_defaults() -> None:
    assert _loss("wrpo").options.model_dump() == {
        "beta": 0.01,
        "alpha": 0.1,
        "alpha_schedule": "linear",
        "label_smoothing": 0.0,
    }
    assert _loss("wrpo").at_start == math.log(2)
