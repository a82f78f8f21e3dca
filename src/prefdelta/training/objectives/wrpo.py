"""Weighted-reward preference optimisation: two preferred answers, one from a source model and one of the target's own.

The weight α of the source's answer grows from 0 while training, so that the target moves gradually from its own
distribution to the sources'. Rows are triples (source ``ws``, target ``wt``, rejected ``l``); the reference is the
policy's own starting point. The weights α, 1-α and -1 add up to zero, so whatever is common to the three responses
cancels.

Source: Yang et al., 2024, arXiv 2412.03187, and the authors' code (``SLIT-AI/WRPO``). The paper says that the weighted
reward goes into other objectives as well but prints no equation for them; :func:`wrpo_norm`, :func:`wrpo_ipo` and
:func:`wrpo_simpo` put it where those objectives have the reward of the chosen answer.
"""

from __future__ import annotations

from typing import Literal, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from prefdelta.training.objectives.base import (
    TRIPLE,
    Beta,
    Outcome,
    Scores,
    SmoothedBeta,
    ln_2,
    objective,
    sigmoid_loss,
    squared_target,
)

_SOURCE = "arXiv 2412.03187"


class Weighted(Beta):
    """The source's answer has the weight α: it grows to ``alpha`` (``linear``) or stays there (``constant``)."""

    alpha: float = Field(default=0.1, ge=0, le=1)
    alpha_schedule: Literal["linear", "constant"] = "linear"

    @property
    def source_weight(self) -> float:
        """α."""
        return self.alpha

    def at(self, step: int, steps: int) -> Self:
        """With the α of that step, see :func:`alpha_at`."""
        return self.model_copy(update={"alpha": alpha_at(step, steps, alpha=self.alpha, schedule=self.alpha_schedule)})


class WRPO(Weighted, SmoothedBeta):
    """The options of WRPO."""

    beta: float = Field(default=0.01, gt=0)


class WrpoNorm(WRPO):
    """The options of length-normalised WRPO."""

    beta: float = Field(default=10.0, gt=0)


class WrpoSimPO(Weighted):
    """The options of WRPO with SimPO's margin; ``gamma`` is the target margin γ."""

    beta: float = Field(default=2.0, gt=0)
    gamma: float = Field(default=1.0, ge=0)


class WrpoTwoLoss(SmoothedBeta):
    """The options of the two-loss ablation, which has no α."""

    beta: float = Field(default=0.01, gt=0)


def alpha_at(step: int, steps: int, *, alpha: float, schedule: str) -> float:
    """``α_t = α · t / T`` while t runs from 0 to T, clamped outside; or α throughout (``constant``).

    Args:
        step: optimiser steps done, t.
        steps: optimiser steps of the whole training, T; below 1 it counts as 1.
        alpha: where it ends.
        schedule: ``linear`` or ``constant``.

    >>> [alpha_at(step, 4, alpha=0.1, schedule="linear") for step in range(5)]
    [0.0, 0.025, 0.05, 0.07500000000000001, 0.1]
    """
    if schedule == "constant":
        return alpha
    return alpha * (min(max(step, 0), max(steps, 1)) / max(steps, 1))


def weighted_margin(rewards: Tensor, alpha: float) -> Tensor:
    """``u = α r_ws + (1-α) r_wt - r_l``; ``(3, n)`` to ``(n,)``."""
    return alpha * rewards[0] + (1 - alpha) * rewards[1] - rewards[2]


@objective("wrpo", WRPO, source=_SOURCE, responses=TRIPLE, at_start=ln_2)
def wrpo(scores: Scores, options: WRPO) -> Outcome:
    """``-log σ(u)``, ``u = α r_ws + (1-α) r_wt - r_l`` with ``r = β (s - s^ref)``; smoothed as DPO is.

    α = 0 is DPO on (target, rejected), α = 1 is DPO on (source, rejected).

    Source: arXiv 2412.03187; the loss is restated as equation 19 of InfiFPO (NeurIPS 2025).
    """
    rewards = options.beta * scores.ratios
    return Outcome(sigmoid_loss(weighted_margin(rewards, options.alpha), options.label_smoothing), rewards.detach())


@objective("wrpo-norm", WrpoNorm, source=_SOURCE, responses=TRIPLE, at_start=ln_2)
def wrpo_norm(scores: Scores, options: WrpoNorm) -> Outcome:
    """:func:`wrpo` with ``r = (β / length) (s - s^ref)``, the reward of FuseChat-3.0's length-normalised DPO.

    Source: the reward is that of arXiv 2503.04222; its use here is an analogy.
    """
    rewards = options.beta * scores.mean_ratios
    return Outcome(sigmoid_loss(weighted_margin(rewards, options.alpha), options.label_smoothing), rewards.detach())


@objective("wrpo-ipo", Weighted, source=_SOURCE, responses=TRIPLE, at_start=squared_target)
def wrpo_ipo(scores: Scores, options: Weighted) -> Outcome:
    """``( α h_ws + (1-α) h_wt - h_l - 1 / 2τ )²`` with ``h = (s - s^ref) / length``, ``τ = β``; see ``ipo``."""
    rewards = scores.mean_ratios
    return Outcome((weighted_margin(rewards, options.alpha) - 0.5 / options.beta) ** 2, rewards.detach())


@objective("wrpo-simpo", WrpoSimPO, source=_SOURCE, responses=TRIPLE, needs_reference=False)
def wrpo_simpo(scores: Scores, options: WrpoSimPO) -> Outcome:
    """``-log σ( α r_ws + (1-α) r_wt - r_l - γ )`` with ``r = β s / length``, without a reference; see ``simpo``."""
    rewards = options.beta * scores.means
    return Outcome(-F.logsigmoid(weighted_margin(rewards, options.alpha) - options.gamma), rewards.detach())


@objective("wrpo-two-loss", WrpoTwoLoss, source=_SOURCE, responses=TRIPLE, at_start=ln_2)
def wrpo_two_loss(scores: Scores, options: WrpoTwoLoss) -> Outcome:
    """The mean of two DPO losses, (source, rejected) and (target, rejected): losses are averaged, not rewards.

    Source: the authors' code, ``loss_type="sigmoid"``; an ablation.
    """
    rewards = options.beta * scores.ratios
    source, target = (sigmoid_loss(rewards[k] - rewards[2], options.label_smoothing) for k in (0, 1))
    return Outcome((source + target) / 2, rewards.detach())
