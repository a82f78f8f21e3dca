"""Rules: element-wise ways to combine several updates, whatever the space their coordinates are taken in.

A rule is a sparsifier followed by a consensus, or a function of its own. Adding one is an entry in :data:`RULES` and
one of the same name in the :mod:`~prefdelta.merging.methods.catalogue`; it then exists in every space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prefdelta.linalg.stream import Block, Stream, largest_magnitudes
from prefdelta.merging.dense_code import call, dense_code, signature
from prefdelta.merging.methods.options import SceOptions
from prefdelta.merging.methods.sparsifiers import (
    Apply,
    Context,
    Sparsifier,
    fit_breadcrumbs,
    fit_della,
    fit_magnitude,
    fit_random,
)

_STILL = 1e-12  # a variance below this share of the largest square is rounding


@dataclass(frozen=True)
class Rule:
    """An element-wise rule.

    Attributes:
        dense: dense code that defines it for arrays ``x`` of shape (N, rows, columns), and a call of it.
        fit: ``fit(stream, weights, options, context)`` looks at the whole stream and returns the map from a block
            ``(N, b, columns)`` to the combined ``(b, columns)``.
    """

    dense: tuple[str, str]
    fit: Callable[[Stream, Tensor, Any, Context], Apply]


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Σᵢ wᵢ xᵢ, (rows, columns); ``values`` (N, rows, columns), ``weights`` (N,).

    On dense matrices::

        def weighted_sum(x, weights):
            return torch.einsum("i,iab->ab", weights, x)
    """
    return torch.tensordot(weights.to(values.dtype), values, dims=1)


def signed_mean(values: Tensor, weights: Tensor) -> Tensor:
    """TIES: elect a sign for each entry, then average the values that have it.

    ``values`` (N, rows, columns), which may be overwritten; ``weights`` (N,); the result is (rows, columns).

    γ = sgn(Σᵢ wᵢ xᵢ) and the result is Σ_{i ∈ A} wᵢ xᵢ / Σ_{i ∈ A} |wᵢ| with A = {i : sgn(wᵢ xᵢ) = γ}. At equal
    weights this is the paper's disjoint mean; a negative weight turns its update around before the vote. Entries
    whose sum is exactly 0 elect no sign and become 0.

    On dense matrices::

        def signed_mean(x, weights):
            weighted = weights[:, None, None] * x
            agree = torch.sign(weighted) == torch.sign(weighted.sum(dim=0))
            share = (agree * weights.abs()[:, None, None]).sum(dim=0)
            return torch.where(share > 0, (agree * weighted).sum(dim=0) / share, 0.0)

    Source: TIES-Merging, arXiv 2306.01708, algorithm 1.
    """
    elected, agreeing, sizes = _vote(values, weights)
    total = sizes @ agreeing
    share = sizes @ agreeing.sign_()
    # Where nothing agrees, the total is 0 as well.
    return (elected * total / share.clamp_(min=torch.finfo(share.dtype).tiny)).reshape(values.shape[1:])


def agreeing_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Elect a sign for each entry as :func:`signed_mean` does, then sum the weighted values that have it.

    On dense matrices::

        def agreeing_sum(x, weights):
            weighted = weights[:, None, None] * x
            return (weighted * (torch.sign(weighted) == torch.sign(weighted.sum(dim=0)))).sum(dim=0)
    """
    elected, agreeing, sizes = _vote(values, weights)
    return (elected * (sizes @ agreeing)).reshape(values.shape[1:])


def _vote(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The elected signs, what points that way as positive numbers (in place of ``values``), and the |wᵢ|."""
    factors = weights.to(values.dtype)
    flat = values.reshape(len(values), -1)
    elected = torch.sign(factors @ flat)
    # As positive numbers, because each pass over all values is dear, so there are few.
    agreeing = flat.mul_(elected)
    if bool((factors < 0).any()):
        agreeing *= torch.sign(factors)[:, None]
    return elected, agreeing.clamp_(min=0), factors.abs()


def fit_sce(stream: Stream, weights: Tensor, options: SceOptions, context: Context) -> Apply:
    """SCE as a rule.

    Select: σ² = the variance of an entry over the updates; keep the density · k entries where it is largest, k the
    number of entries that vary at all. Where none does (one update, or equal ones) there is nothing to choose from
    and all stay. Calculate: ηᵢ ∝ |wᵢ| · mean of the selected xᵢ². Erase: the :func:`signed_mean` at weights ηᵢ.
    A negative weight turns its update around before all this.

    On dense matrices::

        def select_and_erase(x, weights, density):
            x = x * torch.sign(weights)[:, None, None]
            variance = x.var(dim=0, correction=0)
            varying = int((variance > 1e-12 * (x**2).max()).sum())
            if density < 1 and varying:
                k = max(1, int(density * varying))
                x = x * (variance >= variance.flatten().sort(descending=True).values[k - 1])
            squares = (x**2).sum(dim=(1, 2))
            return signed_mean(x, weights.abs() * squares / squares.sum())
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


def _rule(sparsifier: Sparsifier, combine: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    def fit(stream: Stream, weights: Tensor, options: Any, context: Context) -> Apply:
        thin = sparsifier(stream, options, context)
        return lambda block: combine(thin(block), weights)

    thin_code, combine_code = dense_code(sparsifier), dense_code(combine)
    return Rule(
        (f"{thin_code}\n{combine_code}", f"{signature(combine_code)[0]}({call(thin_code)}, weights)"),
        fit,
    )


RULES: dict[str, Rule] = {
    "ties": _rule(fit_magnitude, signed_mean),
    "magnitude-prune": _rule(fit_magnitude, weighted_sum),
    "dare": _rule(fit_random, weighted_sum),
    "dare-ties": _rule(fit_random, signed_mean),
    "breadcrumbs": _rule(fit_breadcrumbs, weighted_sum),
    "breadcrumbs-ties": _rule(fit_breadcrumbs, signed_mean),
    "della": _rule(fit_della, signed_mean),
    "della-linear": _rule(fit_della, weighted_sum),
    "sce": Rule((f"{dense_code(signed_mean)}\n{dense_code(fit_sce)}", call(dense_code(fit_sce))), fit_sce),
}
"""By the names of the catalogue."""

AGREEING_SUM = _rule(fit_magnitude, agreeing_sum)
"""What ``truncate-ties`` combines by; not in every space, since it is TIES up to the scale where all updates agree."""
