"""Methods on singular vectors: TSV-Merge, and isotropic merging (Iso-C, Iso-CTS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch

from prefdelta.linalg.lowrank import LowRank, Svd, concat
from prefdelta.linalg.shared_bases import nearest_isometry
from prefdelta.linalg.stack import Stack
from prefdelta.merging.methods.options import IsoCtsOptions, IsoOptions, TsvOptions
from prefdelta.merging.registry import Merged, implements


def on_cores(function: Callable[..., Merged]) -> Callable[..., Merged]:
    """Let a method that commutes with rotations of the module's input and output work on R x R cores.

    f(Uᵀ ΔWᵢ V) = Uᵀ f(ΔWᵢ) V for orthogonal U and V, so it makes no difference, but it costs O(R³) instead of
    O((d_out + d_in) R²) beside the QR factors and the way back.
    """

    @wraps(function)
    def run(deltas: Sequence[LowRank], **arguments: Any) -> Merged:
        stack = Stack.of(deltas)
        merged = function(stack.cores, **arguments)
        return Merged(stack.lifted(merged.delta), merged.notes)

    return run


@implements("tsv-m")
@on_cores
def tsv_m(deltas: Sequence[LowRank], *, weights: Sequence[float], options: TsvOptions) -> Merged:
    """ΔW = U⊥ diag(w₁S₁, …, w_NS_N) V⊥ᵀ.

    ΔWᵢ = Uᵢ Sᵢ Vᵢᵀ; U = [U₁ … U_N], V alike; U⊥ = P Qᵀ from the SVD U = P Σ Qᵀ, the nearest matrix with orthonormal
    columns (algorithm 1, whitening).

    The low-rank form: every update contributes the rᵢ directions that it has. The authors' code takes min(d)/N of
    each update's singular vectors, which for an adapter are mostly null-space vectors, arbitrary, that still bend U⊥.
    Where Σ rᵢ exceeds the smaller side of the module, each update's leading min(d)/N directions are taken, as there,
    but never none: where N exceeds min(d), U⊥ has orthonormal rows instead.

    What updates share is counted once: N identical updates at weight 1 give that update, so weights 1/N give 1/N of
    it.

    On dense matrices::

        def isometry(X, tolerance):
            P, S, Qt = torch.linalg.svd(X, full_matrices=False)
            return P[:, S > tolerance * S[0]] @ Qt[S > tolerance * S[0]]

        def tsv_m(deltas, weights, tolerance):
            parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
            ranks = [int((S > tolerance * S[0]).sum()) for _, S, _ in parts]
            if sum(ranks) > min(deltas[0].shape):
                ranks = [min(rank, max(1, min(deltas[0].shape) // len(deltas))) for rank in ranks]
            U = torch.cat([U[:, :rank] for (U, _, _), rank in zip(parts, ranks)], dim=1)
            S = torch.cat([w * S[:rank] for (_, S, _), rank, w in zip(parts, ranks, weights)])
            V = torch.cat([Vt[:rank].T for (_, _, Vt), rank in zip(parts, ranks)], dim=1)
            return isometry(U, tolerance) * S @ isometry(V, tolerance).T

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ. Result: rank ≤ R.

    Notes: ``smallest_overlap``, the least singular value of U and V that counts; far below 1 the updates' directions
    are nearly dependent, and the result sensitive to the tolerance.
    """
    parts = [delta.svd(options.tolerance) for delta in deltas]
    limit = min(deltas[0].shape)
    if sum(len(part.S) for part in parts) > limit:
        share = max(1, limit // len(parts))
        parts = [Svd(part.U[:, :share], part.S[:share], part.V[:, :share]) for part in parts]
    s = torch.cat([part.S * weight for part, weight in zip(parts, weights, strict=True)])
    u, least_u = nearest_isometry(torch.cat([part.U for part in parts], dim=1), options.tolerance)
    v, least_v = nearest_isometry(torch.cat([part.V for part in parts], dim=1), options.tolerance)
    return Merged(LowRank(u * s, v.T), {"smallest_overlap": min(least_u, least_v)})


@implements("iso-c")
@on_cores
def iso_c(deltas: Sequence[LowRank], *, weights: Sequence[float], options: IsoOptions) -> Merged:
    """ΔW = σ̄ U Vᵀ with Σ wᵢ ΔWᵢ = U S Vᵀ and σ̄ the mean of the singular values.

    The low-rank form: the mean runs over the directions that the sum has, at most R = Σ rᵢ. The paper's runs over
    all min(d), and its U and V are completed by null-space vectors, so that an adapter's sum would end up with
    1 - R / min(d) of its energy in arbitrary directions and σ̄ smaller by R / min(d).

    One adapter alone is flattened too: that is the method.

    On dense matrices::

        def iso_c(deltas, weights, tolerance):
            U, S, Vt = torch.linalg.svd(sum(w * delta for w, delta in zip(weights, deltas)), full_matrices=False)
            k = int((S > tolerance * S[0]).sum())
            return S[:k].mean() * U[:, :k] @ Vt[:k]

    Cost: O((d_out + d_in) R² + R³). Result: rank ≤ R.

    Notes: ``mean_singular_value``, σ̄; ``largest_singular_value`` before flattening.
    """
    u, s, v = concat(deltas, weights).svd(options.tolerance)
    if not len(s):
        return Merged(LowRank.zero(deltas[0].shape))
    mean = s.mean()
    return Merged(LowRank(u * mean, v.T), {"mean_singular_value": float(mean), "largest_singular_value": float(s[0])})


@implements("iso-cts")
@on_cores
def iso_cts(deltas: Sequence[LowRank], *, weights: Sequence[float], options: IsoCtsOptions) -> Merged:
    """ΔW = σ̄ U* V*ᵀ, of k common directions and s directions of each update.

    With R directions in Σ wᵢ ΔWᵢ = U S Vᵀ and N updates that are not zero, s = round((1 - common) R / N), at most
    R / N, and k = R - N s. The common ones are the leading k of the sum, U_c, S_c, V_c; update i adds the leading s
    singular triples of wᵢ (ΔWᵢ - U_c U_cᵀ ΔWᵢ). Both sides are made orthonormal together (polar factor), and σ̄ is the
    mean of all the singular values collected.

    The low-rank form of the paper's method, which has min(d) in the place of R; see :data:`iso_c`.

    On dense matrices::

        def iso_cts(deltas, weights, tolerance, common):
            present = [w * delta for w, delta in zip(weights, deltas) if w != 0 and delta.norm() > 0]
            U, S, Vt = torch.linalg.svd(sum(present), full_matrices=False)
            rank = int((S > tolerance * S[0]).sum())
            own = min(round((1 - common) * rank / len(present)), rank // len(present))
            k = rank - len(present) * own
            left, values, right = [U[:, :k]], [S[:k]], [Vt[:k].T]
            for delta in present:
                u, s, vt = torch.linalg.svd(delta - U[:, :k] @ U[:, :k].T @ delta, full_matrices=False)
                n = min(own, int((s > tolerance * delta.norm()).sum()))
                left, values, right = [*left, u[:, :n]], [*values, s[:n]], [*right, vt[:n].T]
            U, V = isometry(torch.cat(left, dim=1), tolerance), isometry(torch.cat(right, dim=1), tolerance)
            return torch.cat(values).mean() * U @ V.T

    Cost: O((d_out + d_in) R² + R³). Result: rank ≤ R.

    Notes: as :data:`iso_c`, and ``common_directions``, k.
    """
    u, s, v = concat(deltas, weights).svd(options.tolerance)
    if not len(s):
        return Merged(LowRank.zero(deltas[0].shape))
    present = [delta.scaled(weight) for delta, weight in zip(deltas, weights, strict=True) if weight and delta.norm()]
    own = min(round((1 - options.common) * len(s) / len(present)), len(s) // len(present))
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
