"""Geometric Alignment Merging (GAM) and two variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank, Svd
from prefdelta.merging.average import average, shares
from prefdelta.merging.registry import Merged, Options, method

_PAPER = "Preference Delta Aggregation, arXiv 2606.00357, section 4"


class GamOptions(Options):
    """Options of GAM.

    ``reference`` is the position of the adapter that the others are aligned to; the paper takes the one that does
    best on validation. ``chordal-mean`` aligns all of them to the subspaces nearest to theirs on average (in chordal
    distance), which needs no choice and does not depend on the adapters' order.

    A direction whose singular value is at most ``tolerance`` times the module's largest is treated as absent: GAM
    weighs all directions alike, so one made of rounding noise would count in full.
    """

    reference: Annotated[int, Field(ge=0)] | Literal["chordal-mean"] = 0
    tolerance: float = Field(default=1e-7, ge=0, lt=1)


@dataclass(frozen=True)
class _Aligned:
    """The averaged components Ū (d_out, r), S̄ (r, r), V̄ (d_in, r), and what was met on the way."""

    U: Tensor
    S: Tensor
    V: Tensor
    notes: dict[str, float]


@method(
    "gam",
    summary="Align the singular bases to a reference by Procrustes, then average U, S and V separately.",
    paper=_PAPER + ", equations 1-5.",
    options=GamOptions,
)
def gam(deltas: Sequence[LowRank], *, weights: Sequence[float], options: GamOptions) -> Merged:
    """Geometric Alignment Merging, as published.

    1. ΔWᵢ = Uᵢ Sᵢ Vᵢᵀ, the thin SVD.
    2. With index 1 the reference, R_iᵁ = argmin_{R ∈ O(r)} ‖Uᵢ R - U₁‖_F = P Qᵀ from the SVD Uᵢᵀ U₁ = P Σ Qᵀ; the
       same for V. Then Ũᵢ = Uᵢ R_iᵁ, S̃ᵢ = (R_iᵁ)ᵀ Sᵢ R_iⱽ, Ṽᵢ = Vᵢ R_iⱽ, so that Ũᵢ S̃ᵢ Ṽᵢᵀ = ΔWᵢ still.
    3. ΔW_GAM = Ū S̄ V̄ᵀ with Ū = Σ wᵢ Ũᵢ / Σ wᵢ, and S̄, V̄ alike.

    Cases that the paper leaves open:

    - A zero update (an untrained module, or a module that the adapter lacks) has no directions to align; it is left
      out of the means, and its weight with it.
    - Ranks that differ: an update of rank rᵢ is aligned by the rᵢ x r matrix with orthonormal rows that comes
      closest to the reference's r columns, so Ũᵢ S̃ᵢ Ṽᵢᵀ = ΔWᵢ holds and no direction is invented or cut.
    - This needs a reference of the largest rank: where the chosen one has a smaller rank (or no update at all), the
      update of largest rank stands in for it in that module, the one of larger norm among equals.

    Cost: O(N (d_out + d_in) r² + N r³). Result: rank ≤ max rᵢ.

    Notes: ``smallest_cosine``, the smallest principal cosine met in an alignment (near 0 the rotation, and so the
    result, is not determined); ``left_out``, the number of zero updates; ``reference``, the position used, if
    the reference is an adapter.

    Raises:
        PrefdeltaError: ``reference`` is no adapter's position, or a weight is negative.
    """
    aligned = _align(deltas, weights, options)
    return Merged(_assemble(aligned), aligned.notes)


@method(
    "gam-orthonormal",
    summary="GAM with the averaged bases made orthonormal again, which undoes most of its shrinkage.",
    paper=_PAPER + "; re-orthonormalised as appendix C, assumption A1, describes.",
    options=GamOptions,
)
def gam_orthonormal(deltas: Sequence[LowRank], *, weights: Sequence[float], options: GamOptions) -> Merged:
    """GAM whose Ū and V̄ are replaced by their polar factors, the nearest matrices with orthonormal columns.

    With an adapter as reference U₁ᵀŪ is at least w₁ times the identity, so the polar factors are determined.
    Everything else is as in :data:`gam`.
    """
    aligned = _align(deltas, weights, options)
    return Merged(_assemble(_Aligned(_polar(aligned.U), aligned.S, _polar(aligned.V), aligned.notes)), aligned.notes)


@method(
    "gam-norm-matched",
    summary="GAM rescaled in every module to the norm of the plain average: its direction at the average's size.",
    paper=_PAPER + "; the rescaling is a control for update norm, not part of the paper.",
    options=GamOptions,
)
def gam_norm_matched(deltas: Sequence[LowRank], *, weights: Sequence[float], options: GamOptions) -> Merged:
    """ΔW_GAM · ‖ΔW_AVG‖_F / ‖ΔW_GAM‖_F, with ΔW_AVG the plain average at the same weights.

    It separates the direction that GAM finds from the magnitude that it leaves.
    """
    aligned = _align(deltas, weights, options)
    merged = _assemble(aligned)
    norm = merged.norm()
    factor = average(deltas, weights=weights).norm() / norm if norm else 1.0
    return Merged(merged.scaled(factor), {**aligned.notes, "rescaled_by": factor})


def _align(deltas: Sequence[LowRank], weights: Sequence[float], options: GamOptions) -> _Aligned:
    if isinstance(options.reference, int) and options.reference >= len(deltas):
        raise PrefdeltaError(f"GAM's reference is {options.reference}, but there are {len(deltas)} adapters (from 0).")
    if min(weights) < 0:
        raise PrefdeltaError(f"GAM averages directions, so its weights cannot be negative: {list(weights)}.")
    parts = [delta.svd(options.tolerance) for delta in deltas]
    present = [index for index, part in enumerate(parts) if part.S.numel() and weights[index] > 0]
    notes: dict[str, float] = {"left_out": float(len(deltas) - len(present))}
    if not present:
        zero = LowRank.zero(deltas[0].shape)
        return _Aligned(zero.B, torch.zeros(0, 0, dtype=torch.float64), zero.A.T, notes)
    share = shares([weights[index] for index in present])
    if isinstance(options.reference, int):
        reference = _reference(parts, present, options.reference)
        target_u, target_v = parts[reference].U, parts[reference].V
        notes["reference"] = float(reference)
    else:
        reference = None
        target_u = _chordal_mean([parts[index].U for index in present], share)
        target_v = _chordal_mean([parts[index].V for index in present], share)
    cosines = [1.0]
    total: list[Any] = [0.0, 0.0, 0.0]
    for index, weight in zip(present, share, strict=True):
        part = parts[index]
        if index == reference:
            rotation_u = rotation_v = torch.eye(len(part.S), dtype=torch.float64)
        else:
            rotation_u, cosine_u = _procrustes(part.U, target_u)
            rotation_v, cosine_v = _procrustes(part.V, target_v)
            cosines += [cosine_u, cosine_v]
        components = (part.U @ rotation_u, rotation_u.T @ (part.S[:, None] * rotation_v), part.V @ rotation_v)
        total = [mean + weight * component for mean, component in zip(total, components, strict=True)]
    notes["smallest_cosine"] = min(cosines)
    return _Aligned(total[0], total[1], total[2], notes)


def _reference(parts: Sequence[Svd], present: Sequence[int], wanted: int) -> int:
    rank = max(len(parts[index].S) for index in present)
    if wanted in present and len(parts[wanted].S) == rank:
        return wanted
    widest = [index for index in present if len(parts[index].S) == rank]
    return max(widest, key=lambda index: float(parts[index].S.norm()))


def _chordal_mean(bases: Sequence[Tensor], share: Sequence[float]) -> Tensor:
    """The leading left singular vectors of [√s₁ U₁ … √s_N U_N], as many as the widest basis has columns.

    They span the subspace with the least Σ sᵢ (chordal distance to span Uᵢ)². GAM does not depend on which basis of
    it is taken, since a rotation of the reference turns Ū, S̄ and V̄ along with it.
    """
    q, r = torch.linalg.qr(torch.cat([basis * part**0.5 for basis, part in zip(bases, share, strict=True)], dim=1))
    u = torch.linalg.svd(r, full_matrices=False).U
    return q @ u[:, : max(basis.shape[1] for basis in bases)]


def _procrustes(basis: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """The matrix R with orthonormal rows that minimises ‖basis R - target‖_F, and the smallest principal cosine."""
    p, cosines, qt = torch.linalg.svd(basis.T @ target, full_matrices=False)
    return p @ qt, float(cosines.min())


def _polar(basis: Tensor) -> Tensor:
    if basis.shape[1] == 0:
        return basis
    q, r = torch.linalg.qr(basis)
    p, _, st = torch.linalg.svd(r)
    return q @ (p @ st)


def _assemble(aligned: _Aligned) -> LowRank:
    return LowRank(aligned.U @ aligned.S, aligned.V.T)
