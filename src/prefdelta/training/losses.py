"""Training objectives: pure functions of per-sequence log-probabilities.

Every objective maps the :class:`Scores` of some pairs to one loss per pair. The loss of an optimiser step is the mean
over all its pairs, however they are cut into micro-batches. To add an objective, write one function and enter it in
:data:`LOSSES` with what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Training


@dataclass(frozen=True)
class Scores:
    """What an objective may look at, for ``n`` pairs with ``k`` responses each.

    Row 0 of a ``(k, n)`` tensor belongs to the chosen responses, row 1 to the rejected ones. All values are fp32, in
    nats. "Own" tokens are those that the model wrote; tokens of the search environment are never counted.

    Attributes:
        logps: ``(k, n)``, log-probability of a response: the sum over its own tokens.
        lengths: ``(k, n)``, number of own tokens, at least 1.
        reference: ``(k, n)``, ``logps`` under the reference (the base model), where the objective asks for it.
        prompt_logps: ``(n,)``, the sum over the prompt tokens of the chosen sequence, where asked for.
        tokens_per_pair: how many tokens of the chosen sequence are counted (own, and prompt where asked for), averaged
            over *all* pairs of the optimiser step: dividing by it makes the mean over pairs a mean over tokens.
    """

    logps: Tensor
    lengths: Tensor
    reference: Tensor | None = None
    prompt_logps: Tensor | None = None
    tokens_per_pair: float = 1.0


class Objective(NamedTuple):
    """The result: ``loss (n,)`` and, for the log, the detached implicit ``rewards (k, n)``, if there are any."""

    loss: Tensor
    rewards: Tensor | None


@dataclass(frozen=True)
class Loss:
    """An objective and what it needs.

    Attributes:
        name: key in :data:`LOSSES`.
        source: where the equation comes from.
        function: ``(scores, beta) -> Objective``.
        responses: how many responses of a row it looks at; 1 is the chosen one only.
        needs_reference: whether ``scores.reference`` must be given.
        needs_prompt: whether ``scores.prompt_logps`` must be given.
        at_start: its value while the policy still equals the reference, if that is known; checked at the first step.
    """

    name: str
    source: str
    function: Callable[[Scores, float], Objective]
    responses: int
    needs_reference: bool
    needs_prompt: bool = False
    at_start: float | None = None


def dpo(scores: Scores, beta: float) -> Objective:
    """Direct preference optimisation.

    ``-log σ( β [ (s_c - s_c^ref) - (s_l - s_l^ref) ] )`` with the summed log-probabilities ``s``.

    Source: Rafailov et al., 2023, arXiv 2305.18290, equation 7.
    """
    if scores.reference is None:
        raise ValueError("dpo needs reference log-probabilities")
    rewards = beta * (scores.logps - scores.reference)
    return Objective(-F.logsigmoid(rewards[0] - rewards[1]), rewards.detach())


def orpo(scores: Scores, beta: float) -> Objective:
    """Odds-ratio preference optimisation, with the length-averaged likelihood of the chosen *completion*.

    ``-m_c + λ · -log σ( logodds(m_c) - logodds(m_l) )`` with ``m = s / length``, ``λ = β``.

    Source: Hong et al., 2024, arXiv 2403.07691, equations 6 and 7; scope of the first term as in LLaMA-Factory.
    """
    means = scores.logps / scores.lengths
    return Objective(-means[0] + beta * _odds_ratio_loss(means), beta * means.detach())


def orpo_full(scores: Scores, beta: float) -> Objective:
    """Like :func:`orpo`, but the likelihood is that of *prompt and completion*, averaged over the batch's tokens.

    ``-(s_c + s_prompt) / tokens_per_pair + λ · -log σ( logodds(m_c) - logodds(m_l) )``.

    Source: Hong et al., 2024, arXiv 2403.07691; scope of the first term as in TRL (``trl.experimental.orpo``).
    """
    if scores.prompt_logps is None:
        raise ValueError("orpo-full needs the prompt's log-probabilities")
    means = scores.logps / scores.lengths
    likelihood = -(scores.logps[0] + scores.prompt_logps) / scores.tokens_per_pair
    return Objective(likelihood + beta * _odds_ratio_loss(means), beta * means.detach())


def sft(scores: Scores, beta: float) -> Objective:
    """Supervised fine-tuning on the chosen responses: negative log-likelihood per token.

    ``-s_c / tokens_per_pair``: the mean over the tokens of the optimiser step, as in ``transformers``. ``beta`` is not
    used.
    """
    del beta
    return Objective(-scores.logps[0] / scores.tokens_per_pair, None)


def _odds_ratio_loss(means: Tensor) -> Tensor:
    odds = log_odds(means)
    return -F.logsigmoid(odds[0] - odds[1])


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


_LN_2 = 0.6931471805599453

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("dpo", "arXiv 2305.18290", dpo, responses=2, needs_reference=True, at_start=_LN_2),
        Loss("orpo", "arXiv 2403.07691", orpo, responses=2, needs_reference=False),
        Loss("orpo-full", "arXiv 2403.07691", orpo_full, responses=2, needs_reference=False, needs_prompt=True),
        Loss("sft", "maximum likelihood", sft, responses=1, needs_reference=False),
    )
}


def loss_of(training: Training) -> Loss:
    """The objective that a recipe's ``training`` section asks for.

    Raises:
        PrefdeltaError: ``nll_scope: full`` with an objective that has no such variant.
    """
    if training.nll_scope == "completion":
        return LOSSES[training.objective]
    if training.objective != "orpo":
        raise PrefdeltaError(
            f"training.nll_scope 'full' is for objective 'orpo'; remove it for {training.objective!r}."
        )
    return LOSSES["orpo-full"]
