"""Isotropic merging: the sum's singular directions, all at one strength."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from prefdelta.lowrank import LowRank, Svd, concat
from prefdelta.merging.joint import nearest_isometry, on_cores
from prefdelta.merging.registry import Merged, Options, method

_PAPER = "No Task Left Behind (isotropic merging), arXiv 2502.04959"


class IsoOptions(Options):
    """Directions of the sum with a singular value of at most ``tolerance`` times the largest count as absent."""

    tolerance: float = Field(default=1e-7, ge=0, lt=1)


@method(
    "iso-c",
    summary="The weighted sum with all its singular values replaced by their mean.",
    paper=_PAPER + ", Iso-C.",
    options=IsoOptions,
)
@on_cores
def iso_c(deltas: Sequence[LowRank], *, weights: Sequence[float], options: IsoOptions) -> Merged:
    """ΔW = σ̄ U Vᵀ with Σ wᵢ ΔWᵢ = U S Vᵀ and σ̄ the mean of the singular values.

    The low-rank form: the mean runs over the directions that the sum has, at most R = Σ rᵢ. The paper's runs over
    all min(d), and its U and V are completed by null-space vectors, so that an adapter's sum would end up with
    1 - R / min(d) of its energy in arbitrary directions and σ̄ smaller by R / min(d).

    One adapter alone is flattened too: that is the method.

    Cost: O((d_out + d_in) R² + R³). Result: rank ≤ R.

    Notes: ``mean_singular_value``, σ̄; ``largest_singular_value`` before flattening.
    """
    u, s, v = concat(deltas, weights).svd(options.tolerance)
    if not len(s):
        return Merged(LowRank.zero(deltas[0].shape))
    mean = s.mean()
    return Merged(LowRank(u * mean, v.T), {"mean_singular_value": float(mean), "largest_singular_value": float(s[0])})


class IsoCtsOptions(IsoOptions):
    """``common``: the share of the result's directions that is taken from the sum, the rest from the updates."""

    common: float = Field(default=0.8, gt=0, le=1)


@method(
    "iso-cts",
    summary="Iso-C with some directions taken from what each update has beside the sum.",
    paper=_PAPER + ", Iso-CTS.",
    options=IsoCtsOptions,
)
@on_cores
def iso_cts(deltas: Sequence[LowRank], *, weights: Sequence[float], options: IsoCtsOptions) -> Merged:
    """ΔW = σ̄ U* V*ᵀ, of k common directions and s directions of each update.

    With R directions in Σ wᵢ ΔWᵢ = U S Vᵀ and N updates that are not zero, s = round((1 - common) R / N) and
    k = R - N s. The common ones are the leading k of the sum, U_c, S_c, V_c; update i adds the leading s singular
    triples of wᵢ (ΔWᵢ - U_c U_cᵀ ΔWᵢ). Both sides are made orthonormal together (polar factor), and σ̄ is the mean of
    all the singular values collected.

    The low-rank form of the paper's method, which has min(d) in the place of R; see :data:`iso_c`.

    Cost: O((d_out + d_in) R² + R³). Result: rank ≤ R.

    Notes: as :data:`iso_c`, and ``common_directions``, k.
    """
    u, s, v = concat(deltas, weights).svd(options.tolerance)
    if not len(s):
        return Merged(LowRank.zero(deltas[0].shape))
    present = [delta.scaled(weight) for delta, weight in zip(deltas, weights, strict=True) if weight and delta.norm()]
    own = round((1 - options.common) * len(s) / len(present))
    common = len(s) - len(present) * own
    collected = [Svd(u[:, :common], s[:common], v[:, :common])]
    for weighted in present if own else ():
        # U_c U_cᵀ is applied to B alone: the projection is on the output side.
        residual = LowRank(weighted.B - u[:, :common] @ (u[:, :common].T @ weighted.B), weighted.A)
        if residual.norm() > options.tolerance * weighted.norm():
            part = residual.svd(options.tolerance)
            collected.append(Svd(part.U[:, :own], part.S[:own], part.V[:, :own]))
    mean = torch.cat([part.S for part in collected]).mean()
    left, _ = nearest_isometry(torch.cat([part.U for part in collected], dim=1), options.tolerance)
    right, _ = nearest_isometry(torch.cat([part.V for part in collected], dim=1), options.tolerance)
    notes = {
        "mean_singular_value": float(mean),
        "largest_singular_value": float(s[0]),
        "common_directions": float(common),
    }
    return Merged(LowRank(left * mean, right.T), notes)
