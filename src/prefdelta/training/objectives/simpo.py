"""Simple preference optimisation: no reference model."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field

from prefdelta.training.objectives.base import Beta, Outcome, Scores, objective


class SimPO(Beta):
    """The options of SimPO; ``gamma`` is the target margin γ."""

    beta: float = Field(default=2.0, gt=0)
    gamma: float = Field(default=1.0, ge=0)


@objective("simpo", SimPO, source="arXiv 2405.14734", needs_reference=False)
def simpo(scores: Scores, options: SimPO) -> Outcome:
    """Simple preference optimisation.

    ``-log σ( β (m_c - m_l) - γ )`` with the mean log-probabilities ``m = s / length``. ``γ`` is the target margin
    itself, as in the paper and in TRL; some code bases ask for ``γ/β`` instead.

    Source: Meng et al., 2024, arXiv 2405.14734, equation 6. In TRL: ``CPOTrainer`` with ``cpo_alpha=0``.
    """
    rewards = options.beta * scores.means
    return Outcome(-F.logsigmoid(rewards[0] - rewards[1] - options.gamma), rewards.detach())
