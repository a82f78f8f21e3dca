"""What is left of an update once W + ΔW is rounded to the type it is stored in."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from prefdelta.core.config import Frozen


class RoundingLoss(Frozen):
    """The loss of one module or of all, in one type.

    ``relative_error`` is ‖round(W + ΔW) - W - ΔW‖_F / ‖ΔW‖_F: how far the update that the baked model really carries
    lies from the adapter's, with W as the base model stores it. ``vanished`` is the share of the nonzero entries of ΔW
    that leave round(W + ΔW) = round(W). Both are ``None`` for a zero update.
    """

    relative_error: float | None
    vanished: float | None


class RoundingTally:
    """Sums over blocks of a module, from which its loss in one type follows.

    Args:
        dtype: the type to round to.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.error = 0.0  # Σ (round(W + ΔW) - W - ΔW)²
        self.update = 0.0  # Σ ΔW²
        self.vanished = 0
        self.changed = 0

    def add(self, weight: Tensor, update: Tensor) -> Tensor:
        """Count one block of W and ΔW, both float64; returns round(W + ΔW) in the type."""
        exact = weight + update
        stored = exact.to(self.dtype)
        self.error += float((stored.to(torch.float64) - exact).square().sum())
        self.update += float(update.square().sum())
        nonzero = update != 0
        self.vanished += int(((stored == weight.to(self.dtype)) & nonzero).sum())
        self.changed += int(nonzero.sum())
        return stored

    @property
    def loss(self) -> RoundingLoss:
        """The loss over all blocks so far."""
        return total_loss([self])


def total_loss(tallies: Iterable[RoundingTally]) -> RoundingLoss:
    """The loss over several modules together."""
    listed = list(tallies)
    update, changed = sum(tally.update for tally in listed), sum(tally.changed for tally in listed)
    return RoundingLoss(
        relative_error=math.sqrt(sum(tally.error for tally in listed) / update) if update else None,
        vanished=sum(tally.vanished for tally in listed) / changed if changed else None,
    )
