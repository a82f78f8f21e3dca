"""What an objective is given and gives back, how it is registered, and the table of all objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from prefdelta.core.config import Config
from prefdelta.core.registry import Registry

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


class Options(Config):
    """Base of the options of an objective; one without options takes it as it is."""

    @property
    def needs_prompt(self) -> bool:
        """Whether the objective looks at ``prompt_logps``."""
        return False

    @property
    def source_weight(self) -> float | None:
        """α, the weight of a triple's source answer, for objectives that have one."""
        return None

    def at(self, step: int, steps: int) -> Self:
        """The options after ``step`` of ``steps`` optimiser steps, for objectives whose options move."""
        del step, steps
        return self


class Beta(Options):
    """The options of an objective with a temperature: ``beta``, and nothing else."""

    beta: float = Field(default=0.1, gt=0)


class SmoothedBeta(Beta):
    """``label_smoothing`` is the probability ε that a preference is the wrong way round."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)


PAIR = ("chosen", "rejected")
TRIPLE = ("source", "target", "rejected")


@dataclass(frozen=True)
class Objective:
    """An objective and what it needs.

    Attributes:
        name: key in :data:`OBJECTIVES`.
        source: where the equation comes from.
        function: ``(scores, options) -> Outcome``, with one loss per row; the loss of an optimiser step is the mean
            over all its rows, however they are cut into micro-batches.
        options: the model of its options.
        responses: the names of the responses that it looks at, in the order of the rows of :class:`Scores`.
        needs_reference: whether ``scores.reference`` must be given.
        at_start: its value, by its options, while the policy still equals the reference; ``None`` where that is not
            known. It is checked at the first step.
    """

    name: str
    source: str
    function: Callable[[Scores, Any], Outcome]
    options: type[Options]
    responses: tuple[str, ...]
    needs_reference: bool
    at_start: Callable[[Any], float] | None


OBJECTIVES: Registry[Objective] = Registry("objective", group="prefdelta.objectives")

Equation = TypeVar("Equation", bound=Callable[[Scores, Any], Outcome])


def objective(
    name: str,
    options: type[Options],
    *,
    source: str,
    responses: tuple[str, ...] = PAIR,
    needs_reference: bool = True,
    at_start: Callable[[Any], float] | None = None,
) -> Callable[[Equation], Equation]:
    """Register the decorated function as an objective; the arguments are the attributes of :class:`Objective`."""

    def register(function: Equation) -> Equation:
        OBJECTIVES.register(name, Objective(name, source, function, options, responses, needs_reference, at_start))
        return function

    return register


def sigmoid_loss(margin: Tensor, label_smoothing: float) -> Tensor:
    """``-(1-ε) log σ(u) - ε log σ(-u)``: a preference that holds with probability ``1-ε`` (Mitchell, 2023)."""
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def ln_2(options: Options) -> float:
    """The loss of a coin toss, where every sigmoid objective starts."""
    del options
    return LN_2


def squared_target(options: Beta) -> float:
    """``(1 / 2τ)²``, where IPO starts."""
    return float((0.5 / options.beta) ** 2)
