"""Geometric Alignment Merging (GAM) and two variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.linalg.thinqr import solve
from prefdelta.merging.methods.average import average, shares
from prefdelta.merging.methods.options import GamOptions
from prefdelta.merging.registry import Merged, implements


class _Part(NamedTuple):
    """One update as U C Vᵀ in coefficients over its own factors: U = Bᵢ X, V = Aᵢᵀ Y, orthonormal, X and Y ``(rᵢ, k)``.

    C is diag(S) only if need be: GAM does not depend on the bases of the subspaces that U and V span. ``span`` is the
    update's place in the stack.
    """

    span: slice
    X: Tensor
    core: Tensor
    Y: Tensor


class _Aligned(NamedTuple):
    """The averaged components Ū = B X, S̄ ``(r, r)``, V̄ = Aᵀ Y, and what was met on the way."""

    stack: Stack
    X: Tensor
    S: Tensor
    Y: Tensor
    notes: dict[str, float]

    def assembled(self) -> LowRank:
        """Ū S̄ V̄ᵀ."""
        return self.stack.combined(self.X @ self.S, self.Y)


@implements("gam")
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

    Everything but the result is computed from the products BᵢᵀBᵢ and BᵢᵀB₁, and those of the A's: Uᵢ = Bᵢ Xᵢ with
    small Xᵢ, so that the alignments and means are products of r x r matrices, and Ū S̄ one product with the stacked B.

    On dense matrices::

        def components(delta, tolerance):  # equation 1: ΔW = U S Vᵀ
            U, S, Vt = torch.linalg.svd(delta, full_matrices=False)
            r = int((S > tolerance * S[0]).sum())
            return U[:, :r], torch.diag(S[:r]), Vt[:r].T

        def align(U, U1):  # equation 2: argmin ‖U R - U1‖ over R with orthonormal rows
            P, _, Qt = torch.linalg.svd(U.T @ U1, full_matrices=False)
            return P @ Qt

        def mean_components(deltas, weights, reference, tolerance):
            present = [i for i, delta in enumerate(deltas) if weights[i] > 0 and delta.any()]
            parts = {i: components(deltas[i], tolerance) for i in present}
            share = {i: weights[i] / sum(weights[j] for j in parts) for i in parts}
            U1, V1 = reference_bases(parts, share, reference)
            U_mean = S_mean = V_mean = 0
            for i, (U, S, V) in parts.items():
                R_U, R_V = align(U, U1), align(V, V1)
                U, S, V = U @ R_U, R_U.T @ S @ R_V, V @ R_V  # equation 3: U S Vᵀ is still ΔW
                U_mean = U_mean + share[i] * U  # equation 4, for weights of the user's own
                S_mean = S_mean + share[i] * S
                V_mean = V_mean + share[i] * V
            return U_mean, S_mean, V_mean

        def gam(deltas, weights, reference, tolerance):
            U, S, V = mean_components(deltas, weights, reference, tolerance)
            return U @ S @ V.T  # equation 5

        def reference_bases(parts, share, reference):
            rank = max(len(S) for _, S, _ in parts.values())
            if reference == "chordal-mean":
                sides = [torch.cat([share[i] ** 0.5 * parts[i][side] for i in parts], dim=1) for side in (0, 2)]
                return [torch.linalg.svd(side, full_matrices=False).U[:, :rank] for side in sides]
            widest = [i for i in parts if len(parts[i][1]) == rank]
            i = reference if reference in widest else max(widest, key=lambda i: parts[i][1].norm())
            return parts[i][0], parts[i][2]

    Cost: O(N (d_out + d_in) r² + N r³), with ``chordal-mean`` O(N² (d_out + d_in) r² + N³ r³). Result: rank ≤ max rᵢ.

    Notes: ``smallest_cosine``, the smallest principal cosine met in an alignment (near 0 the rotation, and so the
    result, is not determined); ``left_out``, the number of zero updates; ``reference``, the position used, if
    the reference is an adapter.

    Raises:
        PrefdeltaError: ``reference`` is no adapter's position, or a weight is negative.
    """
    aligned = _align(deltas, weights, options)
    return Merged(aligned.assembled(), aligned.notes)


@implements("gam-orthonormal")
def gam_orthonormal(deltas: Sequence[LowRank], *, weights: Sequence[float], options: GamOptions) -> Merged:
    """GAM whose Ū and V̄ are replaced by their polar factors, the nearest matrices with orthonormal columns.

    With an adapter as reference U₁ᵀŪ is at least w₁ times the identity, so the polar factors are determined.
    Everything else is as in :data:`gam`.

    On dense matrices::

        def polar(X):
            P, _, Qt = torch.linalg.svd(X, full_matrices=False)
            return P @ Qt

        def gam_orthonormal(deltas, weights, reference, tolerance):
            U, S, V = mean_components(deltas, weights, reference, tolerance)
            return polar(U) @ S @ polar(V).T
    """
    aligned = _align(deltas, weights, options)
    stack = aligned.stack
    orthonormal = aligned._replace(X=_polar(aligned.X, stack.outputs.gram), Y=_polar(aligned.Y, stack.inputs.gram))
    return Merged(orthonormal.assembled(), aligned.notes)


@implements("gam-norm-matched")
def gam_norm_matched(deltas: Sequence[LowRank], *, weights: Sequence[float], options: GamOptions) -> Merged:
    """ΔW_GAM · ‖ΔW_AVG‖_F / ‖ΔW_GAM‖_F, with ΔW_AVG the plain average at the same weights.

    It separates the direction that GAM finds from the magnitude that it leaves.

    On dense matrices::

        def gam_norm_matched(deltas, weights, reference, tolerance):
            merged = gam(deltas, weights, reference, tolerance)
            return merged * average(deltas, weights).norm() / merged.norm()
    """
    aligned = _align(deltas, weights, options)
    norm = aligned.assembled().norm()
    factor = average(deltas, weights=weights).norm() / norm if norm else 1.0
    return Merged(aligned._replace(S=aligned.S * factor).assembled(), {**aligned.notes, "rescaled_by": factor})


class _Turned(NamedTuple):
    """The updates that have directions, turned towards the reference, each with its share of the mean."""

    stack: Stack
    parts: dict[int, _Part]
    share: dict[int, float]
    notes: dict[str, float]


def aligned_parts(deltas: Sequence[LowRank], options: GamOptions) -> tuple[Tensor, Tensor, Tensor]:
    """GAM's parts at equal weights: Ū ``(d_out, r)``, the aligned cores S̃ᵢ ``(N, r, r)`` and V̄ᵀ ``(r, d_in)``.

    Ū (mean of the S̃ᵢ of updates that are not zero) V̄ᵀ is the result of :data:`gam`; the core of a zero update is 0.

    Raises:
        PrefdeltaError: ``reference`` is no adapter's position.
    """
    turned = _turn(deltas, [1.0] * len(deltas), options)
    aligned = _mean(turned)
    bases = turned.stack.factored(aligned.X, aligned.Y)
    cores = aligned.S.new_zeros(len(deltas), *aligned.S.shape)
    for index, part in turned.parts.items():
        cores[index] = part.core
    return bases.B, cores, bases.A


def _align(deltas: Sequence[LowRank], weights: Sequence[float], options: GamOptions) -> _Aligned:
    return _mean(_turn(deltas, weights, options))


def _mean(turned: _Turned) -> _Aligned:
    rank = max((part.X.shape[1] for part in turned.parts.values()), default=0)
    x, y = (torch.zeros(turned.stack.rank, rank, dtype=torch.float64) for _ in range(2))
    core = x.new_zeros(rank, rank)
    for index, part in turned.parts.items():
        x[part.span] = turned.share[index] * part.X
        core += turned.share[index] * part.core
        y[part.span] = turned.share[index] * part.Y
    return _Aligned(turned.stack, x, core, y, turned.notes)


def _turn(deltas: Sequence[LowRank], weights: Sequence[float], options: GamOptions) -> _Turned:
    options.check_count(len(deltas))
    if min(weights) < 0:
        raise PrefdeltaError(f"GAM averages directions, so its weights cannot be negative: {list(weights)}.")
    stack = Stack.of(deltas)
    if isinstance(options.reference, int):  # what is needed of it as a rule, in one pass over the factors
        stack.outputs.towards(options.reference)
        stack.inputs.towards(options.reference)
    stack = stack.well_conditioned()
    parts = [_part(stack, index, options.tolerance) for index in range(len(stack))]
    present = [index for index, part in enumerate(parts) if len(part.core) and weights[index] > 0]
    notes: dict[str, float] = {"left_out": float(len(deltas) - len(present))}
    if not present:
        return _Turned(stack, {}, {}, notes)
    share = shares([weights[index] for index in present])
    if isinstance(options.reference, int):
        reference = _reference(parts, present, options.reference)
        chosen = parts[reference]
        towards_u = stack.outputs.towards(reference) @ chosen.X
        towards_v = stack.inputs.towards(reference) @ chosen.Y
        notes["reference"] = float(reference)
    else:
        reference = None
        spans = [parts[index].span for index in present]
        towards_u = _chordal_mean([parts[index].X for index in present], spans, share, stack.outputs.gram)
        towards_v = _chordal_mean([parts[index].Y for index in present], spans, share, stack.inputs.gram)
    cosines = [1.0]
    turned = {}
    for index in present:
        part = parts[index]
        if index == reference:
            rotation_u = rotation_v = torch.eye(len(part.core), dtype=torch.float64)
        else:
            rotation_u, cosine_u = _procrustes(part.X.T @ towards_u[part.span])
            rotation_v, cosine_v = _procrustes(part.Y.T @ towards_v[part.span])
            cosines += [cosine_u, cosine_v]
        core = rotation_u.T @ part.core @ rotation_v
        turned[index] = _Part(part.span, part.X @ rotation_u, core, part.Y @ rotation_v)
    notes["smallest_cosine"] = min(cosines)
    return _Turned(stack, turned, dict(zip(present, share, strict=True)), notes)


def _part(stack: Stack, index: int, tolerance: float) -> _Part:
    """ΔWᵢ through the Cholesky factors L of BᵢᵀBᵢ and AᵢAᵢᵀ: ΔWᵢ = (Bᵢ L_B⁻¹) (L_B L_Aᵀ) (Aᵢᵀ L_A⁻¹)ᵀ.

    Directions whose singular value is at most ``tolerance`` times the largest are left out.
    """
    span, triangles = stack.spans[index], stack.triangles[index]
    if triangles is None:  # an update without columns: the stack is well conditioned
        nothing = torch.zeros(0, 0, dtype=torch.float64)
        return _Part(span, nothing, nothing, nothing)
    left, right = triangles
    core = left @ right.T
    eye = torch.eye(len(core), dtype=torch.float64)
    x, y = solve(left, eye), solve(right, eye)
    # 1/‖C⁻¹‖_F ≤ σ_min and ‖C‖_F ≥ σ_max: mostly this shows that no direction is to be left out.
    if not tolerance * float(torch.linalg.matrix_norm(core)) * float(torch.linalg.matrix_norm(y @ x.T)) < 1:
        u, s, vt = torch.linalg.svd(core)
        keep = int((s > tolerance * s[0]).sum())
        x, core, y = x @ u[:, :keep], torch.diag(s[:keep]), y @ vt[:keep].T
    return _Part(span, x, core, y)


def _reference(parts: Sequence[_Part], present: Sequence[int], wanted: int) -> int:
    rank = max(len(parts[index].core) for index in present)
    if wanted in present and len(parts[wanted].core) == rank:
        return wanted
    widest = [index for index in present if len(parts[index].core) == rank]
    return max(widest, key=lambda index: float(torch.linalg.matrix_norm(parts[index].core)))


def _chordal_mean(bases: Sequence[Tensor], spans: Sequence[slice], share: Sequence[float], gram: Tensor) -> Tensor:
    """The products of the stack's columns with the leading left singular vectors of [√s₁ U₁ … √s_N U_N].

    There are as many of these as the widest basis has columns. They span the subspace with the least Σ sᵢ (chordal
    distance to span Uᵢ)². GAM does not depend on which basis of it is taken, since a rotation of the reference turns
    Ū, S̄ and V̄ along with it. Bases are coefficients over the columns at ``spans`` of the stack, whose cross products
    are ``gram``; the leading singular values are at least √(1/N), so that going through their squares costs no
    accuracy.
    """
    columns = gram.new_zeros(len(gram), sum(basis.shape[1] for basis in bases))
    start = 0
    for basis, span, part in zip(bases, spans, share, strict=True):
        columns[span, start : start + basis.shape[1]] = basis * part**0.5
        start += basis.shape[1]
    squares, vectors = torch.linalg.eigh(columns.T @ gram @ columns)
    count = max(basis.shape[1] for basis in bases)
    return gram @ columns @ (vectors[:, -count:] / squares[-count:].sqrt())


def _procrustes(products: Tensor) -> tuple[Tensor, float]:
    """The R with orthonormal rows that minimises ‖U R - U₁‖_F, from UᵀU₁, and the smallest principal cosine."""
    p, cosines, qt = torch.linalg.svd(products, full_matrices=False)
    return p @ qt, float(cosines.min())


def _polar(basis: Tensor, gram: Tensor) -> Tensor:
    """The coefficients of Ū (ŪᵀŪ)^(-1/2), the nearest matrix with orthonormal columns."""
    squares, vectors = torch.linalg.eigh(basis.T @ gram @ basis)
    return basis @ (vectors / squares.sqrt() @ vectors.T)
