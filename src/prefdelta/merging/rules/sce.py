"""SCE: select the entries that vary, calculate weights, erase the minority sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from pydantic import Field
from torch import Tensor

from prefdelta.merging.registry import Options
from prefdelta.merging.rules.consensus import signed_mean
from prefdelta.merging.rules.sparsify import Apply, Context
from prefdelta.merging.rules.stream import Block, Stream, largest_magnitudes

_STILL = 1e-12  # a variance below this share of the largest square is rounding


class SceOptions(Options):
    """``density``: the share of the varying entries that is kept, those that vary most between the updates."""

    density: float = Field(default=0.1, gt=0, le=1)


def fit_sce(stream: Stream, weights: Tensor, options: SceOptions, context: Context) -> Apply:
    """SCE as a rule.

    Select: σ² = the variance of an entry over the updates; keep the density · k entries where it is largest, k the
    number of entries that vary at all. Where none does (one update, or equal ones) there is nothing to choose from
    and all stay. Calculate: ηᵢ ∝ |wᵢ| · mean of the selected xᵢ². Erase: the :func:`signed_mean` at weights ηᵢ.
    A negative weight turns its update around before all this.
    """
    signs = torch.sign(weights)[:, None, None]

    def turned(block: Block) -> Block:
        return Block(block.row, block.values * signs.to(block.values.dtype))

    def walk() -> Iterator[Block]:
        return (turned(block) for block in stream.walk())

    least = _least_variance(walk, options.density)
    squares = torch.zeros(stream.shape[0], dtype=torch.float64)
    for block in walk():
        squares += (_selected(block, least).double() ** 2).sum(dim=(1, 2))
    importance = weights.abs() * (squares / squares.sum() if float(squares.sum()) else 1.0)
    return lambda block: signed_mean(_selected(turned(block), least), importance)


def _least_variance(walk: Callable[[], Iterator[Block]], density: float) -> float:
    if density == 1:
        return 0.0
    varying, top = 0, 0.0
    for block in walk():
        top = max(top, float((block.values**2).max()) if block.values.numel() else 0.0)
    for block in walk():
        varying += int((_variance(block.values) > _STILL * top).sum())
    if varying == 0:
        return 0.0
    place = max(1, int(density * varying))
    return float(largest_magnitudes(lambda: (_variance(block.values) for block in walk()), [place]))


def _variance(values: Tensor) -> Tensor:
    return values.var(dim=0, correction=0, keepdim=True)


def _selected(block: Block, least: float) -> Tensor:
    return torch.where(_variance(block.values) >= least, block.values, 0.0) if least else block.values
