"""TSV-Merge: the updates' singular vectors, made orthogonal to one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from prefdelta.lowrank import LowRank
from prefdelta.merging.joint import nearest_isometry, on_cores
from prefdelta.merging.registry import Merged, Options, method


class TsvOptions(Options):
    """Singular values at most ``tolerance`` times the largest count as zero, in updates and between them.

    All directions weigh alike in the orthogonalisation, so one made of rounding noise would count in full.
    """

    tolerance: float = Field(default=1e-7, ge=0, lt=1)


@method(
    "tsv-m",
    summary="Make the singular vectors of all updates orthogonal to one another, then add up.",
    paper="Task Singular Vectors (TSV-M), arXiv 2412.00081, algorithm 1.",
    options=TsvOptions,
)
@on_cores
def tsv_m(deltas: Sequence[LowRank], *, weights: Sequence[float], options: TsvOptions) -> Merged:
    """ΔW = U⊥ diag(w₁S₁, …, w_NS_N) V⊥ᵀ.

    ΔWᵢ = Uᵢ Sᵢ Vᵢᵀ; U = [U₁ … U_N], V alike; U⊥ = P Qᵀ from the SVD U = P Σ Qᵀ, the nearest matrix with orthonormal
    columns (algorithm 1, whitening).

    The low-rank form: every update contributes the rᵢ directions that it has. The authors' code takes min(d)/N of
    each update's singular vectors, which for an adapter are mostly null-space vectors, arbitrary, that still bend U⊥.
    Where Σ rᵢ exceeds the smaller side of the module, each update's leading min(d)/N directions are taken, as there.

    What updates share is counted once: N identical updates at weight 1 give that update, so weights 1/N give 1/N of
    it.

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ. Result: rank ≤ R.

    Notes: ``smallest_overlap``, the least singular value of U and V that counts; far below 1 the updates' directions
    are nearly dependent, and the result sensitive to the tolerance.
    """
    parts = [delta.svd(options.tolerance) for delta in deltas]
    limit = min(deltas[0].shape)
    if sum(len(part.S) for part in parts) > limit:
        share = limit // len(parts)
        parts = [type(part)(part.U[:, :share], part.S[:share], part.V[:, :share]) for part in parts]
    s = torch.cat([part.S * weight for part, weight in zip(parts, weights, strict=True)])
    u, least_u = nearest_isometry(torch.cat([part.U for part in parts], dim=1), options.tolerance)
    v, least_v = nearest_isometry(torch.cat([part.V for part in parts], dim=1), options.tolerance)
    return Merged(LowRank(u * s, v.T), {"smallest_overlap": min(least_u, least_v)})
