"""The training log: ``metrics.jsonl``, one line per optimiser step, under the names that TRL uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from prefdelta.training.objectives import Loss, Outcome, Scores
from prefdelta.training.objectives.wrpo import weighted_margin


def names(loss: Loss) -> list[str]:
    """The metrics of an objective, whatever the batch."""
    return [f"{what}/{name}" for what in ("logps", "lengths") for name in loss.names] + of_rewards(loss)


def of_rewards(loss: Loss) -> list[str]:
    """The metrics that only an objective with implicit rewards has; the last of :func:`names`."""
    if len(loss.names) == 1:
        return []
    accuracies = ["rewards/accuracies"] if len(loss.names) == 2 else [f"accuracies/{name}" for name in loss.names[:-1]]
    return [*(f"rewards/{name}" for name in loss.names), "rewards/margins", *accuracies]


class StepSums:
    """Sums over the rows of an optimiser step, to which its micro-batches are added; divided by the rows, its means.

    ``rewards/*`` are the objective's own implicit rewards (for a length-normalised one, normalised), ``logps/*``
    summed log-probabilities in nats, ``lengths/*`` own tokens. A triple's margin is WRPO's weighted one (with weight
    1/2 where the objective has no α), and each preferred response has its own accuracy against the rejected one.
    An objective without implicit rewards has neither these nor margins and accuracies.

    Args:
        loss: the objective as it is at this step.
        device: where the sums are.

    Attributes:
        values: the loss, the metrics in the order of :func:`names`, and micro-batches with rewards, in fp64. Processes
            that share a step add theirs up.
    """

    def __init__(self, loss: Loss, device: torch.device) -> None:
        self.loss = loss
        self.values = torch.zeros(len(names(loss)) + 2, dtype=torch.float64, device=device)

    def add(self, scores: Scores, outcome: Outcome) -> None:
        """Add a micro-batch."""
        values = [*scores.logps.detach(), *scores.lengths]
        rewards = outcome.rewards if len(scores.logps) > 1 else None
        if rewards is not None:
            alpha, triple = self.loss.options.source_weight, len(rewards) == 3
            margin = weighted_margin(rewards, 0.5 if alpha is None else alpha) if triple else rewards[0] - rewards[1]
            values += [*rewards, margin, *((preferred > rewards[-1]).to(torch.float32) for preferred in rewards[:-1])]
        found = torch.stack([outcome.loss.detach().sum(), *(value.sum() for value in values)])
        self.values[: len(found)] += found
        self.values[-1] += rewards is not None

    def means(self, rows: int) -> dict[str, float]:
        """The step's line in the log: its ``loss``, the metrics, and α where the objective has it."""
        *totals, rewarded = self.values.tolist()
        left_out = [] if rewarded else of_rewards(self.loss)
        found = zip(("loss", *names(self.loss)), totals, strict=True)
        means = {name: total / rows for name, total in found if name not in left_out}
        alpha = self.loss.options.source_weight
        return means if alpha is None else {**means, "alpha": alpha}


def entry(logs: Mapping[str, Any]) -> dict[str, float] | None:
    """A step's line from what ``transformers`` logged; ``None`` for its summary at the end, which holds times."""
    if "loss" not in logs:
        return None
    return {name: value for name, value in logs.items() if name != "epoch"}
