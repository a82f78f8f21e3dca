"""Sign conflict between updates, from entries computed out of the factors."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdelta.merging.inspection.results import SignConflict

SIDE = 256
"""Rows and columns of the sampled grid: at most 65,536 entries of a module; smaller modules are taken whole."""


def grid(module: str, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rows and columns of a module whose crossings are looked at: at most SIDE × SIDE entries, a function of the
    module's name and shape alone.
    """
    seed = int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(size, generator=generator)[:SIDE].sort().values for size in shape)
    return rows, columns


@dataclass
class SignTally:
    """Counts over modules: entries nonzero in both updates, those of opposite sign, and how many were to be expected.

    The expectation is taken module by module: the angle differs between them, and so does their number of entries.
    """

    both: int = 0
    opposite: int = 0
    expected: float = 0.0

    def add(self, first: Tensor, second: Tensor, cosine: float) -> SignConflict | None:
        """Count the sampled entries of one module with updates of this cosine, and return its own conflict."""
        product = torch.sign(first) * torch.sign(second)
        both, opposite = int((product != 0).sum()), int((product < 0).sum())
        expected = both * math.acos(min(1.0, max(-1.0, cosine))) / math.pi
        self.both, self.opposite, self.expected = self.both + both, self.opposite + opposite, self.expected + expected
        return _conflict(both, opposite, expected)

    @property
    def conflict(self) -> SignConflict | None:
        """The conflict over all modules so far; ``None`` if no entry is nonzero in both."""
        return _conflict(self.both, self.opposite, self.expected)


def _conflict(both: int, opposite: int, expected: float) -> SignConflict | None:
    if not both:
        return None
    return SignConflict(
        share=opposite / both, expected=expected / both, excess=(opposite - expected) / both, entries=both
    )
