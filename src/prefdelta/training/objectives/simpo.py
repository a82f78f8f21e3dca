"""Simple preference optimisation: no reference model."""

from __future__ import annotations

import torch.nn.functional as F

from prefdelta.training.objectives.base import Outcome, Scores


def simpo(scores: Scores, *, beta: float, gamma: float) -> Outcome:
    """Simple preference optimisation.

    ``-log σ( β (m_c - m_l) - γ )`` with the mean log-probabilities ``m = s / length``. ``γ`` is the target margin
    itself, as in the paper and in TRL; some code bases ask for ``γ/β`` instead.

    Source: Meng et al., 2024, arXiv 2405.14734, equation 6. In TRL: ``CPOTrainer`` with ``cpo_alpha=0``.
    """
    rewards = beta * scores.means
    return Outcome(-F.logsigmoid(rewards[0] - rewards[1] - gamma), rewards.detach())
