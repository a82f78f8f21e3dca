"""Ways to thin an update out, entry by entry, before updates are combined.

A sparsifier looks at the whole stream once (``fit``) and then maps its blocks to blocks in which some entries are 0.
Each update is treated by itself, before its weight is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from prefdelta.merging.registry import Options
from prefdelta.merging.rules.noise import Noise
from prefdelta.merging.rules.stream import Block, Stream

Apply = Callable[[Block], Tensor]


@dataclass(frozen=True)
class Context:
    """What a rule is told beside the values: the updates' positions in the merge, and their module's name."""

    positions: Sequence[int]
    module: str


@dataclass(frozen=True)
class Sparsifier:
    """A named way to thin out: ``fit(stream, options, context)`` gives the map from a block to its thinned values."""

    options: type[Options]
    fit: Callable[[Stream, Any, Context], Apply]
    paper: str


class MagnitudeOptions(Options):
    """``density``: the share of each update's entries that is kept, those of largest magnitude."""

    density: float = Field(default=0.2, gt=0, le=1)


def fit_magnitude(stream: Stream, options: MagnitudeOptions, context: Context) -> Apply:
    """Keep the density · n entries of largest magnitude, at least one; entries equal to the last one stay too."""
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


class BreadcrumbsOptions(Options):
    """Of the entries ordered by magnitude, drop the top share ``outliers``, then keep ``density``, drop the rest."""

    density: float = Field(default=0.9, gt=0, le=1)
    outliers: float = Field(default=0.01, ge=0, lt=1)


def fit_breadcrumbs(stream: Stream, options: BreadcrumbsOptions, context: Context) -> Apply:
    """Keep a band of magnitudes: not the largest ``outliers`` · n, not the smallest.

    Where the two shares add up to more than 1, fewer outliers are dropped; a density of 1 keeps everything.
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


class RandomOptions(Options):
    """``density`` is the chance of an entry to be kept; ``seed`` draws the masks."""

    density: float = Field(default=0.5, gt=0, le=1)
    seed: int = Field(default=0, ge=0)


def fit_random(stream: Stream, options: RandomOptions, context: Context) -> Apply:
    """DARE: m ~ Bernoulli(p), τ = m · ΔW / p, so that each entry keeps its expectation."""
    if options.density == 1:
        return lambda block: block.values
    noise = Noise(options.seed, context.module)

    def drop(block: Block) -> Tensor:
        mask = _draws(noise, block, context) < options.density
        return torch.where(mask, block.values / options.density, 0.0)

    return drop


class DellaOptions(Options):
    """Keep chances run from ``density - spread`` to ``density + spread`` within a row; ``seed`` draws the masks."""

    density: float = Field(default=0.5, gt=0, le=1)
    spread: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _chances(self) -> DellaOptions:
        if self.density < 1 and not (self.density - self.spread > 0 and self.density + self.spread <= 1):
            raise ValueError("density - spread must be above 0 and density + spread at most 1")
        return self


def fit_della(stream: Stream, options: DellaOptions, context: Context) -> Apply:
    """DELLA's MagPrune: the chance pᵢⱼ of an entry grows linearly with its magnitude's rank in the row; τ = m · x / p.

    A row of one entry is kept with chance ``density``; a density of 1 keeps everything.
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


MAGNITUDE = Sparsifier(MagnitudeOptions, fit_magnitude, "TIES-Merging, arXiv 2306.01708")
BREADCRUMBS = Sparsifier(BreadcrumbsOptions, fit_breadcrumbs, "Model Breadcrumbs, arXiv 2312.06795")
RANDOM = Sparsifier(RandomOptions, fit_random, "DARE, arXiv 2311.03099")
DELLA = Sparsifier(DellaOptions, fit_della, "DELLA-Merging, arXiv 2406.11617")
