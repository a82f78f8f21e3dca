"""The objectives: known values, limits, and what tells a preference from its reverse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Training
from prefdelta.training.losses import LOSSES, Scores, dpo, log_odds, loss_of, orpo, orpo_full, sft

LOGP = st.floats(min_value=-200, max_value=-1e-9)


def _scores(chosen: list[float], rejected: list[float], **more: object) -> Scores:
    logps = torch.tensor([chosen, rejected], dtype=torch.float64)
    usual = {"lengths": torch.full(logps.shape, 4), "reference": torch.zeros_like(logps)}
    return Scores(logps=logps, **{**usual, **more})  # type: ignore[arg-type]


def test_dpo_is_ln_2_where_policy_and_reference_agree() -> None:
    logps = torch.tensor([[-3.0, -1.0], [-7.0, -2.0]])
    objective = dpo(Scores(logps=logps, lengths=torch.ones(2, 2), reference=logps), 0.1)
    assert objective.loss.tolist() == pytest.approx([math.log(2)] * 2)
    assert LOSSES["dpo"].at_start == math.log(2)


def test_dpo_by_hand() -> None:
    scores = _scores([-1.0], [-3.0], reference=torch.tensor([[-2.0], [-1.0]], dtype=torch.float64))
    margin = 0.5 * ((-1.0 + 2.0) - (-3.0 + 1.0))
    objective = dpo(scores, 0.5)
    assert objective.loss.item() == pytest.approx(math.log1p(math.exp(-margin)))
    assert objective.rewards is not None
    assert objective.rewards.flatten().tolist() == pytest.approx([0.5, -1.0])


@given(chosen=LOGP, rejected=LOGP)
def test_swapping_the_responses_turns_the_gradient_of_dpo_at_the_start(chosen: float, rejected: float) -> None:
    responses = torch.tensor([chosen, rejected], dtype=torch.float64)
    gradients = []
    for order in ([0, 1], [1, 0]):
        leaf = responses.clone().requires_grad_()
        logps = leaf[order][:, None]
        dpo(Scores(logps=logps, lengths=torch.ones(2, 1), reference=logps.detach()), 0.3).loss.sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    assert torch.equal(gradients[0], -gradients[1])
    assert gradients[0].tolist() == pytest.approx([-0.15, 0.15])


@given(st.floats(min_value=-30, max_value=-1e-12))
def test_log_odds_are_those_of_the_definition(logp: float) -> None:
    expected = logp - math.log(-math.expm1(logp))
    assert log_odds(torch.tensor(logp, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("logp", [-1e-30, -1e-7, -0.6931471, -0.6931472, -0.7, -20.0, -500.0])
def test_log_odds_and_their_gradient_stay_finite_in_fp32(logp: float) -> None:
    value = torch.tensor(logp, requires_grad=True)
    odds = log_odds(value)
    odds.backward()
    assert odds.item() == pytest.approx(logp - math.log(-math.expm1(logp)), rel=1e-5, abs=1e-6)
    assert value.grad is not None
    assert value.grad.item() == pytest.approx(1 / -math.expm1(logp), rel=1e-5)


def test_orpo_by_hand() -> None:
    odds = [m - math.log(-math.expm1(m)) for m in (-0.5, -1.5)]
    expected = 0.5 + 0.2 * math.log1p(math.exp(odds[1] - odds[0]))
    assert orpo(_scores([-2.0], [-6.0]), 0.2).loss.item() == pytest.approx(expected)


def test_full_scope_averages_over_the_tokens_of_the_step() -> None:
    """Over a whole step the mean over pairs is the mean over tokens."""
    prompt_logps, prompt_lengths = torch.tensor([-8.0, -1.0]), torch.tensor([3.0, 5.0])
    scores = _scores(
        [-2.0, -6.0],
        [-6.0, -1.0],
        prompt_logps=prompt_logps,
        tokens_per_pair=float((prompt_lengths + 4).sum()) / 2,
    )
    likelihood = orpo_full(scores, 0.2).loss - orpo(scores, 0.2).loss - scores.logps[0] / 4
    assert likelihood.mean().item() == pytest.approx((8.0 + 9.0) / (3 + 4 + 5 + 4))


def test_sft_is_the_mean_over_tokens() -> None:
    scores = Scores(logps=torch.tensor([[-2.0, -9.0]]), lengths=torch.tensor([[1, 5]]), tokens_per_pair=3.0)
    assert sft(scores, 0.1).loss.mean().item() == pytest.approx(11 / 6)


def test_scope_full_is_refused_where_it_means_nothing() -> None:
    assert loss_of(Training(objective="orpo", nll_scope="full")).name == "orpo-full"
    with pytest.raises(PrefdeltaError, match="nll_scope"):
        loss_of(Training(objective="dpo", nll_scope="full"))
