"""Spaces: coordinates in which updates are combined entry by entry (KnOTS, Core Space, CtM).

Adding one is an entry in :data:`SPACES` and one of the same prefix in the
:mod:`~prefdelta.merging.methods.catalogue`; every rule then exists in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prefdelta.linalg.best_rank import RowBlocks, best_rank
from prefdelta.linalg.factored_update import FactoredUpdate, Given
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.shared_bases import core_basis, sign_fixed
from prefdelta.linalg.stack import Stack
from prefdelta.linalg.stream import Stream
from prefdelta.merging.methods.options import CompressedOptions, FullOptions, KnotsOptions
from prefdelta.merging.registry import Merged, Options

_HELD = 256 << 20  # bytes up to which a merged matrix is kept rather than computed again in every pass
_STEPS = 1000
_GAIN = 1e-6  # the authors' tolerance: stop when the relative error falls by less


class Coordinates(NamedTuple):
    """Updates as arrays (``stream``), and the way back from one array of that kind to an update (``back``)."""

    stream: Stream
    back: Callable[[RowBlocks], Merged]


@dataclass(frozen=True)
class Space:
    """A kind of coordinates for the updates of one module.

    The map from updates to coordinates is linear and one to one on the span of the updates (except where a space
    says that it compresses), and a function of the ΔW's, not of their factors.

    Attributes:
        enter: ``enter(deltas, options)``, for at least one update that is not zero.
        pairs: whether entering takes the products of all pairs of updates.
    """

    enter: Callable[[Sequence[LowRank], Any], Coordinates]
    pairs: bool = True


def enter_full(deltas: Sequence[LowRank], options: FullOptions) -> Coordinates:
    """Coordinates are the entries of ΔW; the way back is an approximation of limited rank (:func:`best_rank`).

    On dense matrices::

        def entries(deltas, rank):
            k = rank or sum(int(torch.linalg.matrix_rank(delta)) for delta in deltas)

            def back(merged):
                U, S, Vt = torch.linalg.svd(merged, full_matrices=False)
                return U[:, :k] * S[:k] @ Vt[:k]

            return torch.stack(deltas), back

    Cost: O(N r d_out d_in) for each pass over the blocks, of which a rule makes one to six.
    """
    rank = options.rank or sum(delta.rank for delta in deltas)

    def back(merged: RowBlocks) -> Merged:
        delta, kept = best_rank(merged.kept_if_small(_HELD), rank)
        return Merged(delta, {"kept_energy": kept})

    return Coordinates(Stream.products(deltas, torch.float32), back)


def enter_knots(deltas: Sequence[LowRank], options: KnotsOptions) -> Coordinates:
    """Zᵢ = Uᵀ ΔWᵢ = S Vᵢᵀ, from the SVD [ΔW₁ … ΔW_N] = U S [V₁ᵀ … V_Nᵀ].

    As in the authors' code, the singular values belong to what is merged (S Vᵢᵀ), although the paper writes Vᵢ. The
    coordinates, which are many, are float32 unless the factors are wider; the basis is float64.

    On dense matrices::

        def knots(deltas, shared):
            if shared == "input":
                x, back = knots([delta.T for delta in deltas], "output")
                return x, lambda merged: back(merged).T
            U, S, Vt = torch.linalg.svd(torch.cat(deltas, dim=1), full_matrices=False)
            k = int((S > 1e-10 * S[0]).sum())
            x = torch.stack((S[:k, None] * Vt[:k]).split(deltas[0].shape[1], dim=1))
            return x, lambda merged: U[:, :k] @ merged

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ, and O(R d_in) entries for each update.
    """
    flipped = options.shared == "input"
    stack = Stack.of(deltas).T if flipped else Stack.of(deltas)
    u, _ = core_basis(stack)
    left = u.T @ stack.outputs.qr.R
    dtype = torch.float64 if torch.float64 in stack.dtypes else torch.float32
    inner = [
        LowRank(left[:, span].to(dtype), stack.inputs.block(index, dtype).T) for index, span in enumerate(stack.spans)
    ]

    def back(merged: RowBlocks) -> Merged:
        delta = FactoredUpdate(stack.turned(u), Given(stack.inputs, merged.dense().T))
        return Merged(delta.T if flipped else delta)

    return Coordinates(Stream.products(inner, dtype), back)


def enter_core(deltas: Sequence[LowRank], options: Options) -> Coordinates:
    """Cᵢ = Uᵀ ΔWᵢ V with U, V the left and right singular vectors of [ΔW₁ … ΔW_N] and [ΔW₁; …; ΔW_N].

    ΔWᵢ = U Cᵢ Vᵀ exactly. The paper takes U and V from the stacks of the B's and the A's, which depends on how each
    update is factored; these depend on the ΔW's alone, and span the same spaces.

    On dense matrices::

        def core(deltas):
            U, S, _ = torch.linalg.svd(torch.cat(deltas, dim=1), full_matrices=False)
            _, T, Vt = torch.linalg.svd(torch.cat(deltas, dim=0), full_matrices=False)
            U, V = U[:, S > 1e-10 * S[0]], Vt[T > 1e-10 * T[0]].T
            return U.T @ torch.stack(deltas) @ V, lambda merged: U @ merged @ V.T

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ.
    """
    stack = Stack.of(deltas)
    u, _ = core_basis(stack)
    v, _ = core_basis(stack.T)
    left, right = u.T @ stack.outputs.qr.R, stack.inputs.qr.R.T @ v
    cores = torch.empty(len(stack), left.shape[0], right.shape[1], dtype=torch.float64)
    for span, core in zip(stack.spans, cores, strict=True):
        torch.mm(left[:, span], right[span], out=core)

    def back(merged: RowBlocks) -> Merged:
        return Merged(stack.lifted(between(u, merged, v)))

    return Coordinates(Stream.of(cores), back)


def between(u: torch.Tensor, core: RowBlocks, v: torch.Tensor) -> LowRank:
    """U C Vᵀ with C multiplied into the side that leaves the lower rank."""
    middle = core.dense()
    return LowRank(u, middle @ v.T) if middle.shape[0] <= middle.shape[1] else LowRank(u @ middle, v.T)


def enter_compressed(deltas: Sequence[LowRank], options: CompressedOptions) -> Coordinates:
    """Oᵢ = Uᵀ ΔWᵢ V with U (d_out, k) and V (d_in, k) that fit all updates best, each rescaled first.

    U, V = argmax Σᵢ ‖Uᵀ Xᵢ V‖²_F over orthonormal bases (a Tucker-2 decomposition), where
    Xᵢ = ΔWᵢ/‖ΔWᵢ‖ · (β ‖ΔWᵢ‖ + (1 - β) mean_j ‖ΔW_j‖). It is solved in Core Space, where it loses nothing, by HOSVD
    and then alternating exact steps (HOOI). The coordinates are those of the updates themselves, not of the Xᵢ.

    This space compresses: what lies outside the two subspaces is dropped before the merge.

    On dense matrices::

        def leading(x, k):
            return torch.linalg.svd(torch.cat(list(x), dim=1), full_matrices=False).U[:, :k]

        def compressed(deltas, rank, beta):
            k = rank or max(int(torch.linalg.matrix_rank(delta)) for delta in deltas)
            x = torch.stack(deltas)
            norms = x.norm(dim=(1, 2), keepdim=True)
            scaled = x / norms * (beta * norms + (1 - beta) * norms.mean())
            U, V, error = leading(scaled, k), leading(scaled.mT, k), 1.0
            for _ in range(1000):
                U = leading(scaled @ V, k)
                V = leading(scaled.mT @ U, k)
                previous, error = error, 1 - float((U.T @ scaled @ V).norm() / scaled.norm()) ** 2
                if previous - error < 1e-6:
                    break
            return U.T @ x @ V, lambda merged: U @ merged @ V.T

    Notes: ``inside_subspaces``, Σ ‖Oᵢ‖² / Σ ‖ΔWᵢ‖².

    Cost: O((d_out + d_in) R² + R³) and O(N R² k) a step, R = Σ rᵢ.
    """
    stack = Stack.of(deltas)
    left, _ = core_basis(stack)
    right, _ = core_basis(stack.T)
    outputs, inputs = left.T @ stack.outputs.qr.R, stack.inputs.qr.R.T @ right
    cores = torch.stack([outputs[:, span] @ inputs[span] for span in stack.spans])
    norms = torch.linalg.matrix_norm(cores)
    rescaled = cores / norms[:, None, None] * (options.beta * norms + (1 - options.beta) * norms.mean())[:, None, None]
    rank = options.rank or max(delta.rank for delta in deltas)
    u, v = _tucker(rescaled, min(rank, cores.shape[1]), min(rank, cores.shape[2]))
    coordinates = u.T @ cores @ v
    kept = float((coordinates**2).sum() / (cores**2).sum())

    def back(merged: RowBlocks) -> Merged:
        return Merged(stack.lifted(between(left @ u, merged, right @ v)), {"inside_subspaces": kept})

    return Coordinates(Stream.of(coordinates), back)


def _tucker(cores: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Orthonormal U and V that maximise Σᵢ ‖Uᵀ Cᵢ V‖², by HOSVD and HOOI; signs are fixed."""
    total = float((cores**2).sum())
    u = _leading(cores, rows)
    v = _leading(cores.mT, columns)
    error = 1.0
    for _ in range(_STEPS):
        u = _leading(cores @ v, rows)
        v = _leading((u.T @ cores).mT, columns)
        missed = 1 - float(((u.T @ cores @ v) ** 2).sum()) / total
        if error - max(missed, 0.0) < _GAIN:
            break
        error = max(missed, 0.0)
    return u, v


def _leading(stack: Tensor, count: int) -> Tensor:
    """The leading left singular vectors of the matrices set side by side."""
    wide = stack.permute(1, 0, 2).reshape(stack.shape[1], -1)
    return sign_fixed(torch.linalg.svd(wide, full_matrices=False).U[:, :count])


FULL = Space(enter_full, pairs=False)

SPACES: dict[str, Space] = {
    "": FULL,
    "knots-": Space(enter_knots),
    "core-": Space(enter_core),
    "ctm-": Space(enter_compressed),
}
"""By the prefixes of the catalogue."""
