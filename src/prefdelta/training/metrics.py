"""The training log: ``metrics.jsonl``, one line per optimiser step, under the names that TRL uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefdelta.records import to_json
from prefdelta.training.objectives import Loss, Outcome, Scores
from prefdelta.training.objectives.wrpo import weighted_margin


def names(loss: Loss) -> list[str]:
    """The metrics of an objective: what :func:`sums` gives, whatever the batch."""
    each = [f"{what}/{name}" for what in ("logps", "lengths") for name in loss.names]
    if len(loss.names) == 1:
        return each
    accuracies = ["rewards/accuracies"] if len(loss.names) == 2 else [f"accuracies/{name}" for name in loss.names[:-1]]
    return [*each, *(f"rewards/{name}" for name in loss.names), "rewards/margins", *accuracies]


def sums(scores: Scores, outcome: Outcome, alpha: float | None) -> list[Tensor]:
    """Sums over the rows of a micro-batch, in the order of :func:`names`; divided by the rows of the step, its means.

    ``rewards/*`` are the objective's own implicit rewards (for a length-normalised one, normalised), ``logps/*``
    summed log-probabilities in nats, ``lengths/*`` own tokens. A triple's margin is WRPO's weighted one (with weight
    1/2 where the objective has no α), and each preferred response has its own accuracy against the rejected one.
    """
    values = [*scores.logps.detach(), *scores.lengths]
    rewards = outcome.rewards
    if rewards is not None:
        triple = len(rewards) == 3
        margin = weighted_margin(rewards, 0.5 if alpha is None else alpha) if triple else rewards[0] - rewards[1]
        values += [*rewards, margin, *((preferred > rewards[-1]).to(torch.float32) for preferred in rewards[:-1])]
    return [value.sum() for value in values]


def entry(logs: Mapping[str, Any]) -> dict[str, float] | None:
    """A step's line from what ``transformers`` logged; ``None`` for its summary at the end, which holds times."""
    if "loss" not in logs:
        return None
    return {name: value for name, value in logs.items() if name != "epoch"}


def write(path: Path, lines: list[dict[str, float]]) -> None:
    """Write the log anew."""
    path.write_text("".join(to_json(line) + "\n" for line in lines), encoding="utf-8")


def append(path: Path, line: Mapping[str, float]) -> None:
    """Add one step to the log."""
    with path.open("a", encoding="utf-8") as handle:
        handle.write(to_json(line) + "\n")
