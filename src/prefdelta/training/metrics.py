"""The training log: ``metrics.jsonl``, one line per optimiser step, under the names that TRL uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefdelta.records import to_json
from prefdelta.training.losses import Objective, Scores

_NAMES = ("chosen", "rejected")


def sums(scores: Scores, objective: Objective) -> dict[str, Tensor]:
    """Sums over the pairs of a micro-batch; divided by the pairs of the step they become :func:`entry`'s means.

    ``rewards/*`` are the objective's implicit rewards, ``logps/*`` summed log-probabilities, in nats.
    """
    logged = {f"logps/{name}": row.detach().sum() for name, row in zip(_NAMES, scores.logps, strict=False)}
    rewards = objective.rewards
    if rewards is not None:
        logged["rewards/chosen"] = rewards[0].sum()
        logged["rewards/rejected"] = rewards[1].sum()
        logged["rewards/margins"] = (rewards[0] - rewards[1]).sum()
        logged["rewards/accuracies"] = (rewards[0] > rewards[1]).to(torch.float32).sum()
    return logged


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
