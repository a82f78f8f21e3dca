"""Sparsifiers: ways to thin an update out, entry by entry, before combining (TIES, DARE, Breadcrumbs, DELLA).

A sparsifier looks at the whole stream once (``fit``) and then maps its blocks to blocks in which some entries are 0.
Each update is treated by itself, before its weight is applied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdelta.linalg.stream import Block, Stream
from prefdelta.merging.methods.options import BreadcrumbsOptions, DellaOptions, MagnitudeOptions, RandomOptions

Apply = Callable[[Block], Tensor]


@dataclass(frozen=True)
class Context:
    """What a rule is told beside the values: the updates' positions in the merge, and their module's name."""

    positions: Sequence[int]
    module: str


Sparsifier = Callable[[Stream, Any, Context], Apply]
"""A way to thin out: ``fit(stream, options, context)`` gives the map from a block to its thinned values."""

_PER_COUNT = 4  # 64-bit numbers that Philox makes from one value of its counter


class Noise:
    """Uniform numbers for every entry of every update of one module.

    The generator is counter-based (Philox), keyed by seed, module and the update's position, with the entry's row as
    its counter: an entry gets the same number whatever the order of the modules and however the rows are blocked.
    """

    def __init__(self, seed: int, module: str) -> None:
        self._name = f"{seed}\n{module}"

    def uniform(self, update: int, row: int, rows: int, columns: int) -> Tensor:
        """Numbers in [0, 1) for rows ``row`` to ``row + rows`` of an update, ``(rows, columns)``, float32."""
        digest = hashlib.sha256(f"{self._name}\n{update}".encode()).digest()
        counts = -(-columns // _PER_COUNT)
        generator = np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64))
        generator.advance(row * counts)
        raw = generator.random_raw(rows * counts * _PER_COUNT).reshape(rows, counts * _PER_COUNT)[:, :columns]
        # 24 bits are what a float32 in [0, 1) holds exactly.
        return torch.from_numpy((raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))


def fit_magnitude(stream: Stream, options: MagnitudeOptions, context: Context) -> Apply:
    """Keep the density · n entries of largest magnitude, at least one; entries equal to the last one stay too.

    On dense matrices::

        def largest(x, density):
            k = max(1, int(density * x[0].numel()))
            least = x.abs().flatten(1).sort(descending=True).values[:, k - 1]
            return torch.where(x.abs() >= least[:, None, None], x, 0.0)
    """
    _, rows, columns = stream.shape
    if options.density == 1:
        return lambda block: block.values
    kept = max(1, int(options.density * rows * columns))
    least = stream.largest_magnitudes([kept])
    below = torch.nextafter(least, torch.zeros_like(least)).flatten().tolist()

    def keep(block: Block) -> Tensor:
        for array, limit in zip(block.values, below, strict=True):
            torch.hardshrink(array, limit, out=array)
        return block.values

    return keep


def fit_breadcrumbs(stream: Stream, options: BreadcrumbsOptions, context: Context) -> Apply:
    """Keep a band of magnitudes: not the largest ``outliers`` · n, not the smallest.

    Where the two shares add up to more than 1, fewer outliers are dropped; a density of 1 keeps everything.

    On dense matrices::

        def band(x, density, outliers):
            n = x[0].numel()
            k = max(1, int(density * n))
            top = min(int(outliers * n), n - k)
            order = x.abs().flatten(1).sort(descending=True).values
            upper, lower = order[:, top, None, None], order[:, top + k - 1, None, None]
            return torch.where((x.abs() <= upper) & (x.abs() >= lower), x, 0.0)
    """
    _, rows, columns = stream.shape
    size = rows * columns
    kept = max(1, int(options.density * size))
    top = min(int(options.outliers * size), size - kept)
    if kept == size:
        return lambda block: block.values
    bounds = stream.largest_magnitudes([top + 1, top + kept])
    upper, lower = bounds[:, 0, None, None], bounds[:, 1, None, None]

    def band(block: Block) -> Tensor:
        magnitude = block.values.abs()
        return torch.where((magnitude <= upper) & (magnitude >= lower), block.values, 0.0)

    return band


def fit_random(stream: Stream, options: RandomOptions, context: Context) -> Apply:
    """DARE: m ~ Bernoulli(p), τ = m · ΔW / p, so that each entry keeps its expectation.

    On dense matrices::

        def dropped(x, density, uniform):  # uniform: numbers in [0, 1), of x's shape
            return torch.where(uniform < density, x / density, 0.0)
    """
    if options.density == 1:
        return lambda block: block.values
    noise = Noise(options.seed, context.module)

    def drop(block: Block) -> Tensor:
        mask = _draws(noise, block, context) < options.density
        return torch.where(mask, block.values / options.density, 0.0)

    return drop


def fit_della(stream: Stream, options: DellaOptions, context: Context) -> Apply:
    """DELLA's MagPrune: the chance pᵢⱼ of an entry grows linearly with its magnitude's rank in the row; τ = m · x / p.

    A row of one entry is kept with chance ``density``; a density of 1 keeps everything.

    On dense matrices::

        def magnitude_dropped(x, density, spread, uniform):  # uniform: numbers in [0, 1), of x's shape
            place = x.abs().argsort(dim=-1, stable=True).argsort(dim=-1).to(x) / (x.shape[-1] - 1)
            chance = density + spread * (2 * place - 1) if density < 1 else torch.ones_like(x)
            return torch.where(uniform < chance, x / chance, 0.0)
    """
    if options.density == 1:
        return lambda block: block.values
    noise = Noise(options.seed, context.module)
    columns = stream.shape[2]

    def drop(block: Block) -> Tensor:
        place = block.values.abs().argsort(dim=-1, stable=True).argsort(dim=-1).to(block.values.dtype)
        height = place / (columns - 1) if columns > 1 else torch.full_like(place, 0.5)
        chance = options.density - options.spread + 2 * options.spread * height
        return torch.where(_draws(noise, block, context) < chance, block.values / chance, 0.0)

    return drop


def _draws(noise: Noise, block: Block, context: Context) -> Tensor:
    _, rows, columns = block.values.shape
    return torch.stack([noise.uniform(position, block.row, rows, columns) for position in context.positions])
