"""The objectives: known values, limits, and what tells a preference from its reverse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import Training
from prefdelta.training.objectives import OBJECTIVES, Loss, Options, Scores, loss_of, resolved
from prefdelta.training.objectives.orpo import log_odds

LOGP = st.floats(min_value=-200, max_value=-1e-9)
WITH_REFERENCE = [name for name, objective in OBJECTIVES.items() if objective.needs_reference]


def _loss(objective: Any, **options: Any) -> Loss:
    return loss_of(Training(objective=objective, **options))


def _scores(*logps: list[float], **more: object) -> Scores:
    values = torch.tensor(logps, dtype=torch.float64)
    usual = {"lengths": torch.full(values.shape, 4), "reference": torch.zeros_like(values)}
    return Scores(logps=values, **{**usual, **more})  # type: ignore[arg-type]


def _random(responses: int, rows: int = 5, seed: int = 0) -> Scores:
    draw = torch.Generator().manual_seed(seed)
    logps, reference = (-20 * torch.rand(responses, rows, generator=draw, dtype=torch.float64) for _ in range(2))
    lengths = torch.randint(1, 9, (responses, rows), generator=draw)
    return Scores(logps, lengths, reference, prompt_logps=logps[0] / 2, tokens_per_row=7.0)


def test_an_objective_with_a_reference_says_where_it_starts() -> None:
    for objective in OBJECTIVES.values():
        assert objective.needs_reference == (objective.at_start is not None)


def test_every_option_of_an_objective_changes_its_loss_or_is_its_schedule() -> None:
    """No option is accepted and then ignored."""
    other = {"beta": 0.7, "gamma": 0.4, "label_smoothing": 0.2, "alpha": 0.6, "nll_scope": "full"}
    for name, objective in OBJECTIVES.items():
        for option in objective.options.model_fields.keys() - {"alpha_schedule"}:
            scores = _random(len(objective.responses))
            changed = _loss(name, **{option: other[option]})(scores).loss
            assert not torch.equal(changed, _loss(name)(scores).loss), (name, option)
    wrpo = _loss("wrpo"), _loss("wrpo", alpha_schedule="constant")
    assert [loss.at(1, 4).options.source_weight for loss in wrpo] == [0.025, 0.1]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_defaults_make_a_whole_loss(name: str) -> None:
    loss = _loss(name)
    outcome = loss.at(1, 2)(_random(len(loss.names)))
    assert outcome.loss.shape == (5,)
    assert torch.isfinite(outcome.loss).all()
    training = resolved(Training(objective=name))
    assert Training.model_validate(training.model_dump()) == training


def test_an_option_of_another_objective_is_an_error_that_names_the_objective() -> None:
    with pytest.raises(PrefdeltaError, match="objective 'ipo': unknown option 'gamma'"):
        loss_of(Training(objective="ipo", gamma=1.0))
    with pytest.raises(PrefdeltaError, match="objective 'sft': unknown option 'beta'"):
        loss_of(Training(objective="sft", beta=0.1))
    assert loss_of(Training(objective="orpo", beta=0.3).with_objective("sft")).options == Options()


def test_a_misspelt_key_of_the_section_is_met_by_the_nearest_option_or_key() -> None:
    with pytest.raises(PrefdeltaError, match="unknown option 'learning_rat'; did you mean 'learning_rate'"):
        resolved(Training(objective="dpo", learning_rat=0.1))
    with pytest.raises(PrefdeltaError, match="unknown option 'bata'; did you mean 'beta'"):
        resolved(Training(objective={"name": "dpo", "options": {"bata": 0.1}}))


def test_options_beside_the_objective_and_under_it_say_the_same() -> None:
    long, short = Training(objective={"name": "simpo", "options": {"beta": 3.0}}), Training(objective="simpo", beta=3.0)
    assert long == short
    assert resolved(short).objective.options == {"beta": 3.0, "gamma": 1.0}
    with pytest.raises(ValidationError, match="beta is given twice"):
        Training(objective={"name": "dpo", "options": {"beta": 0.1}}, beta=0.2)


@pytest.mark.parametrize("name", WITH_REFERENCE)
@given(step=st.integers(0, 9), beta=st.floats(0.01, 10))
def test_where_policy_and_reference_agree_the_loss_is_the_known_one(name: str, step: int, beta: float) -> None:
    loss = _loss(name, beta=beta)
    scores = _random(len(loss.names))
    same = Scores(scores.logps, scores.lengths, reference=scores.logps)
    outcome = loss.at(step, 9)(same)
    assert outcome.loss.tolist() == pytest.approx([loss.at_start] * 5)
    if name not in ("ipo", "wrpo-ipo", "apo-zero", "apo-down"):
        assert loss.at_start == math.log(2)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "sft"])
def test_more_of_the_rejected_answer_never_lowers_the_loss_but_where_it_should(name: str) -> None:
    """The gradient pushes chosen up and rejected down; APO-down pushes both down, the rejected one further."""
    loss = _loss(name)
    scores = _random(len(loss.names))
    logps = scores.logps.clone().requires_grad_()
    again = Scores(logps, scores.lengths, logps.detach(), scores.prompt_logps, scores.tokens_per_row)
    loss.at(1, 2)(again).loss.sum().backward()
    assert logps.grad is not None
    if name == "apo-down":
        assert torch.equal(logps.grad[0], torch.zeros(5, dtype=torch.float64))  # exactly between up and down at first
    else:
        assert (logps.grad[:-1] < 0).all()
    assert (logps.grad[-1] > 0).all()


def test_dpo_by_hand() -> None:
    scores = _scores([-1.0], [-3.0], reference=torch.tensor([[-2.0], [-1.0]], dtype=torch.float64))
    margin = 0.5 * ((-1.0 + 2.0) - (-3.0 + 1.0))
    outcome = _loss("dpo", beta=0.5)(scores)
    assert outcome.loss.item() == pytest.approx(math.log1p(math.exp(-margin)))
    assert outcome.rewards is not None
    assert outcome.rewards.flatten().tolist() == pytest.approx([0.5, -1.0])
    smooth = _loss("dpo", beta=0.5, label_smoothing=0.1)(scores).loss.item()
    assert smooth == pytest.approx(0.9 * math.log1p(math.exp(-margin)) + 0.1 * math.log1p(math.exp(margin)))


@given(chosen=LOGP, rejected=LOGP)
def test_swapping_the_responses_turns_the_gradient_of_dpo_at_the_start(chosen: float, rejected: float) -> None:
    responses = torch.tensor([chosen, rejected], dtype=torch.float64)
    gradients = []
    for order in ([0, 1], [1, 0]):
        leaf = responses.clone().requires_grad_()
        logps = leaf[order][:, None]
        _loss("dpo", beta=0.3)(Scores(logps, torch.ones(2, 1), logps.detach())).loss.sum().backward()
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
    assert _loss("orpo", beta=0.2)(_scores([-2.0], [-6.0])).loss.item() == pytest.approx(expected)


def test_full_scope_averages_over_the_tokens_of_the_step() -> None:
    """Over a whole step the mean over rows is the mean over tokens."""
    prompt_logps, prompt_lengths = torch.tensor([-8.0, -1.0]), torch.tensor([3.0, 5.0])
    scores = _scores(
        [-2.0, -6.0],
        [-6.0, -1.0],
        prompt_logps=prompt_logps,
        tokens_per_row=float((prompt_lengths + 4).sum()) / 2,
    )
    full, completion = (_loss("orpo", beta=0.2, nll_scope=scope)(scores).loss for scope in ("full", "completion"))
    likelihood = full - completion - scores.logps[0] / 4
    assert likelihood.mean().item() == pytest.approx((8.0 + 9.0) / (3 + 4 + 5 + 4))


def test_sft_is_the_mean_over_tokens() -> None:
    scores = Scores(logps=torch.tensor([[-2.0, -9.0]]), lengths=torch.tensor([[1, 5]]), tokens_per_row=3.0)
    assert _loss("sft")(scores).loss.mean().item() == pytest.approx(11 / 6)


@pytest.mark.parametrize("shift", [0.0, 3.5])
def test_simpo_asks_for_a_margin(shift: float) -> None:
    scores = _scores([-4.0 + shift], [-8.0 + shift])
    loss = _loss("simpo", beta=2.0, gamma=1.0)(scores).loss.item()
    assert loss == pytest.approx(math.log1p(math.exp(-(2.0 * (-1.0 + 2.0) - 1.0))))


def test_an_objective_takes_its_part_of_a_longer_row() -> None:
    assert [_loss(name).positions(3) for name in ("wrpo", "dpo", "sft")] == [(0, 1, 2), (1, 2), (0,)]
    assert [_loss(name).positions(2) for name in ("dpo", "sft")] == [(0, 1), (0,)]
    assert _loss("sft").positions(1) == (0,)
    with pytest.raises(PrefdeltaError, match=r"'wrpo' learns from triples \(source, target, rejected\).*given pairs"):
        _loss("wrpo").positions(2)
    with pytest.raises(PrefdeltaError, match=r"'ipo' learns from pairs.*given demonstrations"):
        _loss("ipo").positions(1)


def _part(scores: Scores, positions: list[int]) -> Scores:
    assert scores.reference is not None
    return Scores(scores.logps[positions], scores.lengths[positions], scores.reference[positions])


def test_length_normalised_forms_equal_the_summed_ones_at_equal_lengths() -> None:
    scores = _random(3)
    even = Scores(scores.logps, torch.full((3, 5), 4), scores.reference)
    for norm, plain, responses in (("dpo-norm", "dpo", 2), ("wrpo-norm", "wrpo", 3)):
        part = _part(even, list(range(3 - responses, 3)))
        weight = {"alpha": 0.3} if responses == 3 else {}
        expected: Tensor = _loss(plain, beta=0.5, **weight)(part).loss
        torch.testing.assert_close(_loss(norm, beta=2.0, **weight)(part).loss, expected)
