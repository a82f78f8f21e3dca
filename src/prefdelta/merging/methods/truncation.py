"""Truncation: keep each update's leading singular directions, then combine.

A delta of a few dozen optimiser steps has what it learned in few directions, and in the others what its pairs happened
to contain. A merge wants a large λ, and λ multiplies the rest of every update too.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefdelta.linalg.best_rank import RowBlocks
from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.linalg.stack import Stack
from prefdelta.merging.methods.combined import combine, dense_blocks
from prefdelta.merging.methods.options import TruncateTiesOptions, TruncationOptions
from prefdelta.merging.methods.rules import AGREEING_SUM
from prefdelta.merging.methods.spaces import FULL
from prefdelta.merging.registry import Merged, implements


def leading(delta: LowRank, options: TruncationOptions) -> LowRank:
    """The leading singular directions of ΔW, as the options say, with orthonormal rows of A."""
    u, s, v = delta.svd()
    squares = s.square()
    kept = options.directions or int((squares.cumsum(0) < options.energy * squares.sum()).sum()) + 1
    return LowRank(u[:, :kept] * s[:kept], v[:, :kept].T)


@implements("truncate")
def truncate(deltas: Sequence[LowRank], *, weights: Sequence[float], options: TruncationOptions) -> Merged:
    """ΔW = Σᵢ wᵢ Σ_{k ≤ qᵢ} σᵢₖ uᵢₖ vᵢₖᵀ with ΔWᵢ = Σₖ σᵢₖ uᵢₖ vᵢₖᵀ, qᵢ the fewest directions with a share of ‖ΔWᵢ‖².

    A function of the updates as long as σ_q and σ_{q+1} differ. The weights are plain factors, as in :data:`cat`.

    On dense matrices::

        def kept_directions(delta, energy, directions):
            U, S, Vt = torch.linalg.svd(delta, full_matrices=False)
            missing = (S**2).cumsum(0) < energy * (S**2).sum()
            k = directions or int(missing.sum()) + 1
            return U[:, :k] * S[:k] @ Vt[:k]

        def truncate(deltas, weights, energy, directions):
            return sum(w * kept_directions(delta, energy, directions) for w, delta in zip(weights, deltas))

    Cost: O((d_out + d_in) Σ rᵢ²). Result: rank Σ qᵢ, exact.

    Notes: ``leading_energy``, Σ ‖what is kept of ΔWᵢ‖² / Σ ‖ΔWᵢ‖²; ``directions``, Σ qᵢ.
    """
    parts = [leading(delta, options) for delta in deltas]
    return Merged(concat(parts, weights), _notes(deltas, parts))


def _full(
    deltas: Sequence[LowRank], *, weights: Sequence[float], options: TruncateTiesOptions, module: str
) -> RowBlocks:
    return dense_blocks(AGREEING_SUM, [leading(delta, options) for delta in deltas], weights, options, module)


@implements("truncate-ties", takes_module=True, full=_full)
def truncate_ties(
    deltas: Sequence[LowRank], *, weights: Sequence[float], options: TruncateTiesOptions, module: str
) -> Merged:
    """TIES on truncated updates, with the agreeing entries summed and not averaged.

    Tᵢ is ΔWᵢ cut to its leading singular directions as in :data:`truncate`, and of that the density · n entries of
    largest magnitude. With γ = sgn(Σᵢ wᵢ Tᵢ), entry by entry, the result is Σ_{i : sgn(wᵢ Tᵢ) = γ} wᵢ Tᵢ. TIES' mean
    would weigh an entry that one update alone has kept as much as one on which all agree.

    On dense matrices::

        def agreeing_sum(x, weights):
            weighted = weights[:, None, None] * x
            return (weighted * (torch.sign(weighted) == torch.sign(weighted.sum(dim=0)))).sum(dim=0)

        def truncate_ties(deltas, weights, energy, directions, rank, density):
            present = [i for i, delta in enumerate(deltas) if weights[i] != 0 and delta.any()]
            deltas, weights = [deltas[i] for i in present], torch.tensor([weights[i] for i in present]).to(deltas[0])
            _, back = entries(deltas, rank)
            x = torch.stack([kept_directions(delta, energy, directions) for delta in deltas])
            return back(agreeing_sum(largest(x, density), weights))

    Cost: that of ties, and O((d_out + d_in) Σ rᵢ²). Result: an approximation close to the best of its rank.

    Notes: as :data:`truncate`, and those of ties.
    """
    parts = [leading(delta, options) for delta in deltas]
    ranks = (delta.rank for delta, part, weight in zip(deltas, parts, weights, strict=True) if part.rank and weight)
    ranked = options.model_copy(update={"rank": options.rank or max(1, sum(ranks))})
    merged = combine(FULL, AGREEING_SUM, parts, weights, ranked, module)
    return Merged(merged.delta, {**merged.notes, **_notes(deltas, parts)})


def _notes(deltas: Sequence[LowRank], parts: Sequence[LowRank]) -> dict[str, float]:
    whole = sum(norm**2 for norm in Stack.of(deltas).norms())
    kept = sum(float(part.B.square().sum()) for part in parts)  # the rows of A are orthonormal
    return {"leading_energy": kept / whole if whole else 1.0, "directions": float(sum(part.rank for part in parts))}
