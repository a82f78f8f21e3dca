"""What an objective is given, what it gives back, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor

Options: TypeAlias = Mapping[str, Any]

LN_2 = 0.6931471805599453


@dataclass(frozen=True)
class Scores:
    """What an objective may look at, for ``n`` rows with ``k`` responses each.

    The rows of a ``(k, n)`` tensor belong to the responses: chosen, rejected; or source, target, rejected; or the one
    to imitate. All values are fp32, in nats. "Own" tokens are those that the model wrote; tokens of the search
    environment are never counted.

    Attributes:
        logps: ``(k, n)``, log-probability of a response: the sum over its own tokens.
        lengths: ``(k, n)``, number of own tokens, at least 1.
        reference: ``(k, n)``, ``logps`` under the reference, where the objective asks for it.
        prompt_logps: ``(n,)``, the sum over the prompt tokens of the first sequence, where asked for.
        tokens_per_row: how many tokens of the first sequence are counted (own, and prompt where asked for), averaged
            over *all* rows of the optimiser step: dividing by it makes the mean over rows a mean over tokens.
    """

    logps: Tensor
    lengths: Tensor
    reference: Tensor | None = None
    prompt_logps: Tensor | None = None
    tokens_per_row: float = 1.0

    @property
    def means(self) -> Tensor:
        """``m = s / length``, ``(k, n)``."""
        return self.logps / self.lengths

    @property
    def ratios(self) -> Tensor:
        """``s - s^ref``, ``(k, n)``: how much likelier a response is than under the reference."""
        if self.reference is None:
            raise ValueError("the objective needs the reference's log-probabilities")
        return self.logps - self.reference

    @property
    def mean_ratios(self) -> Tensor:
        """:attr:`ratios` per own token, ``(k, n)``."""
        return self.ratios / self.lengths


class Outcome(NamedTuple):
    """The result: ``loss (n,)`` and, for the log, the detached implicit ``rewards (k, n)``, if there are any."""

    loss: Tensor
    rewards: Tensor | None


@dataclass(frozen=True)
class Objective:
    """An objective and what it needs. The names and defaults of its options are in the recipe's ``Training``.

    Attributes:
        name: key in :data:`prefdelta.training.objectives.OBJECTIVES`.
        source: where the equation comes from.
        function: ``(scores, **options) -> Outcome``, with one loss per row; the loss of an optimiser step is the mean
            over all its rows, however they are cut into micro-batches.
        responses: the names of the responses that it looks at, in the order of the rows of :class:`Scores`.
        needs_reference: whether ``scores.reference`` must be given.
        at_start: its value, by its options, while the policy still equals the reference; ``None`` where that is not
            known. It is checked at the first step.
    """

    name: str
    source: str
    function: Callable[..., Outcome]
    responses: Sequence[str]
    needs_reference: bool
    at_start: Callable[[Options], float] | None = None


PAIR = ("chosen", "rejected")
TRIPLE = ("source", "target", "rejected")


def sigmoid_loss(margin: Tensor, label_smoothing: float) -> Tensor:
    """``-(1-ε) log σ(u) - ε log σ(-u)``: a preference that holds with probability ``1-ε`` (Mitchell, 2023)."""
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def ln_2(options: Options) -> float:
    """The loss of a coin toss, where every sigmoid objective starts."""
    del options
    return LN_2


def squared_target(options: Options) -> float:
    """``(1 / 2τ)²``, where IPO starts."""
    return float((0.5 / options["beta"]) ** 2)
