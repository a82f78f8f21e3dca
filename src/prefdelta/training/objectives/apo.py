"""Anchored preference optimisation: says where both likelihoods shall go, not only how far apart."""

from __future__ import annotations

import torch

from prefdelta.training.objectives.base import Beta, Outcome, Scores, objective


def _one(options: Beta) -> float:
    """Twice σ(0), where both forms start."""
    del options
    return 1.0


@objective("apo-zero", Beta, source="arXiv 2408.06266", at_start=_one)
def apo_zero(scores: Scores, options: Beta) -> Outcome:
    """Chosen up, rejected down: for chosen answers that are better than the model's own.

    ``1 - σ(β r_c) + σ(β r_l)`` with ``r = s - s^ref``.

    Source: D'Oosterlinck et al., 2024, arXiv 2408.06266, equation 7.
    """
    rewards = options.beta * scores.ratios
    return Outcome(1 - torch.sigmoid(rewards[0]) + torch.sigmoid(rewards[1]), rewards.detach())


@objective("apo-down", Beta, source="arXiv 2408.06266", at_start=_one)
def apo_down(scores: Scores, options: Beta) -> Outcome:
    """Both down, rejected further: for chosen answers that are worse than the model's own, as in weak deltas.

    ``σ(β r_c) + 1 - σ( β (r_c - r_l) )`` with ``r = s - s^ref``.

    Source: D'Oosterlinck et al., 2024, arXiv 2408.06266, equation 8.
    """
    rewards = options.beta * scores.ratios
    return Outcome(torch.sigmoid(rewards[0]) + 1 - torch.sigmoid(rewards[0] - rewards[1]), rewards.detach())
