"""RobustMerge: prune the factors, and make up for what pruning took from each direction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.linalg.stream import largest_magnitudes
from prefdelta.merging.methods.options import RobustOptions
from prefdelta.merging.registry import Merged, implements


@implements("robustmerge")
def robustmerge(deltas: Sequence[LowRank], *, weights: Sequence[float], options: RobustOptions) -> Merged:
    """ΔW = Σᵢ B̃ᵢ Ŝᵢ Ãᵢ with Sᵢ = diag(‖Aᵢ[k]‖₁ / ‖Ãᵢ[k]‖₁) and Ŝᵢ[k] = wᵢ Sᵢ[k] / Σⱼ |wⱼ| Sⱼ[k].

    Ã, B̃ are A, B with all but the entries of largest magnitude set to zero. Three choices make it a function of the
    updates: the factors are B = U√S and A = √S Vᵀ of the canonical SVD, rather than as they lie in the file; what is
    summed are the products (the paper's formula), while the authors' code sums A's and B's separately; and there are
    no constants (the code multiplies by 2 and clamps S): the scale of a merge is chosen outside of it. Directions are
    matched between updates by the order of their singular values; one that only some have is shared among those.

    On dense matrices::

        def robustmerge(deltas, weights, density):
            total, parts = torch.zeros(min(deltas[0].shape), dtype=deltas[0].dtype), []
            for delta, w in zip(deltas, weights):
                U, S, Vt = torch.linalg.svd(delta, full_matrices=False)
                r = int(torch.linalg.matrix_rank(delta)) if w != 0 else 0
                B, A = U[:, :r] * S[:r].sqrt(), S[:r, None].sqrt() * Vt[:r]
                pruned = [largest(side[None], density)[0] if r else side for side in (B, A)]
                left = pruned[1].abs().sum(dim=1)
                gain = torch.where(left > 0, A.abs().sum(dim=1) / left, 0.0)
                total[:r] += abs(w) * gain
                parts.append((w * pruned[0] * gain, pruned[1]))
            return sum(B / total[: B.shape[1]].clamp(min=1e-300) @ A for B, A in parts)

    Cost: O((d_out + d_in) Σ rᵢ²). Result: rank Σ rᵢ.
    """
    present = [index for index, delta in enumerate(deltas) if weights[index] != 0 and delta.norm() > 0]
    if not present:
        return Merged(LowRank.zero(deltas[0].shape))
    factored = [deltas[index].truncated(deltas[index].rank)[0] for index in present]
    pruned = [LowRank(_pruned(delta.B, options.density), _pruned(delta.A, options.density)) for delta in factored]
    gains = [_gain(whole.A, thin.A) for whole, thin in zip(factored, pruned, strict=True)]
    width = max(len(gain) for gain in gains)
    total = torch.zeros(width, dtype=torch.float64)
    for index, gain in zip(present, gains, strict=True):
        total[: len(gain)] += abs(weights[index]) * gain
    total = total.clamp(min=torch.finfo(torch.float64).tiny)  # 0 where nothing of a direction is left in any update
    parts = [
        LowRank(thin.B * (weights[index] * gain / total[: len(gain)]), thin.A)
        for index, thin, gain in zip(present, pruned, gains, strict=True)
    ]
    return Merged(concat(parts, [1.0] * len(parts)))


def _pruned(factor: Tensor, density: float) -> Tensor:
    if density == 1:
        return factor
    kept = max(1, int(density * factor.numel()))
    least = largest_magnitudes(lambda: iter([factor[None]]), [kept])
    return torch.where(factor.abs() >= least, factor, 0.0)


def _gain(whole: Tensor, thin: Tensor) -> Tensor:
    """‖A[k]‖₁ / ‖Ã[k]‖₁ for every row; 0 for a row of which nothing is left."""
    left = thin.abs().sum(dim=1)
    return torch.where(left > 0, whole.abs().sum(dim=1) / left.clamp(min=torch.finfo(left.dtype).tiny), 0.0)
