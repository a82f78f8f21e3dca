"""Odds-ratio preference optimisation: likelihood and preference at once, no reference model."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdelta.training.objectives.base import Beta, Outcome, Scores, objective


class ORPO(Beta):
    """The options of ORPO; ``beta`` is λ, ``nll_scope`` says which tokens the likelihood term counts."""

    nll_scope: Literal["completion", "full"] = "completion"

    @property
    def needs_prompt(self) -> bool:
        """The full likelihood counts the prompt's tokens."""
        return self.nll_scope == "full"


@objective("orpo", ORPO, source="arXiv 2403.07691", needs_reference=False)
def orpo(scores: Scores, options: ORPO) -> Outcome:
    """Odds-ratio preference optimisation.

    ``NLL + λ · -log σ( logodds(m_c) - logodds(m_l) )`` with ``m = s / length``, ``λ = β``. Two forms of the likelihood
    term are in use, and ``nll_scope`` says which:

    * ``completion``: ``-m_c``, averaged over the tokens of each chosen completion, as in LLaMA-Factory.
    * ``full``: ``-(s_c + s_prompt) / tokens_per_row``, over prompt *and* completion, averaged over the tokens of the
      batch, as in TRL (``trl.experimental.orpo``).

    Source: Hong et al., 2024, arXiv 2403.07691, equations 6 and 7.
    """
    means = scores.means
    odds = log_odds(means)
    likelihood = _full_likelihood(scores) if options.needs_prompt else means[0]
    return Outcome(-likelihood - options.beta * F.logsigmoid(odds[0] - odds[1]), options.beta * means.detach())


def _full_likelihood(scores: Scores) -> Tensor:
    if scores.prompt_logps is None:
        raise ValueError("orpo with nll_scope 'full' needs the prompt's log-probabilities")
    return (scores.logps[0] + scores.prompt_logps) / scores.tokens_per_row


def log_odds(logp: Tensor) -> Tensor:
    """``log( p / (1 - p) )`` from ``logp = log p < 0``, without cancellation near ``p = 0`` and ``p = 1``.

    >>> log_odds(torch.tensor([-1e-6, -0.6931472, -50.0]))
    tensor([ 13.8155,   0.0000, -50.0000])
    """
    # log(1 - e^x): expm1 is exact for x near 0, log1p for x far below (Maechler, 2012). The bound keeps the unused
    # branch, whose gradient would be 0 * inf, finite; a mean log-probability of exactly 0 has infinite odds.
    logp = logp.clamp(max=-torch.finfo(logp.dtype).tiny)
    near = logp > -0.6931472
    log1mexp = torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, logp, -0.5))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, logp))),
    )
    return logp - log1mexp
