"""Pico: tone down the output directions that many updates share, before any merge."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from prefdelta.linalg.best_rank import RowBlocks
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.shared_bases import output_basis
from prefdelta.merging.dense_code import dense_code, signature
from prefdelta.merging.methods.catalogue import PICO
from prefdelta.merging.registry import Merged, Options, get_method, implements


def calibrate(deltas: Sequence[LowRank]) -> list[LowRank]:
    """ΔW'ᵢ = (I + U diag(α - 1) Uᵀ) ΔWᵢ with αⱼ = 1 / (1 + (N - 1) cⱼ) and cⱼ = σⱼ² / Σ σ².

    U and σ are the left singular vectors and values of [ΔW₁ … ΔW_N]. The paper takes those of [B₁ … B_N], which
    depend on how each update is factored; with A's of orthonormal rows of one common length, as a random
    initialisation nearly has, the two agree. N counts the updates that are not zero.

    On dense matrices::

        def calibrate(deltas):
            U, S, _ = torch.linalg.svd(torch.cat(deltas, dim=1), full_matrices=False)
            n = sum(delta.norm() > 0 for delta in deltas)
            alpha = 1 / (1 + (n - 1) * S**2 / (S**2).sum())
            return [delta + U @ ((alpha - 1)[:, None] * (U.T @ delta)) for delta in deltas]

        def rescaled(merged, deltas, weights):
            present = [(abs(w), delta.norm()) for w, delta in zip(weights, deltas) if w != 0 and delta.norm() > 0]
            return merged / merged.norm() * sum(w * norm for w, norm in present) / sum(w for w, _ in present)
    """
    u, s = output_basis(deltas)
    if not len(s):
        return list(deltas)
    present = sum(delta.norm() > 0 for delta in deltas)
    alpha = 1 / (1 + (present - 1) * s**2 / (s**2).sum())
    return [LowRank(delta.B + u @ ((alpha - 1)[:, None] * (u.T @ delta.B)), delta.A) for delta in deltas]


def _rescaling(size: float, deltas: Sequence[LowRank], weights: Sequence[float]) -> float | None:
    """The factor from ``size`` to Σ |wᵢ| ‖ΔWᵢ‖ / Σ |wᵢ| over the updates that are not zero, if there is one."""
    norms = [delta.norm() for delta in deltas]
    present = [(abs(weight), norm) for weight, norm in zip(weights, norms, strict=True) if norm and weight]
    if not size or not present:
        return None
    return sum(weight * norm for weight, norm in present) / sum(weight for weight, _ in present) / size


def _implement(name: str) -> None:
    inner = get_method(name)

    def function(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> Merged:
        merged = inner.run(calibrate(deltas), weights=weights, options=options, module=module)
        factor = _rescaling(merged.delta.norm(), deltas, weights)
        if factor is None:
            return merged
        return Merged(merged.delta.scaled(factor), {**merged.notes, "rescaled_by": factor})

    def full(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> RowBlocks:
        assert inner.implementation.full is not None
        merged = inner.implementation.full(calibrate(deltas), weights=weights, options=options, module=module)
        factor = _rescaling(merged.norm(), deltas, weights)
        return merged if factor is None else merged.scaled(factor)

    code = dense_code(inner.implementation.function)
    called, (_, _, *options) = signature(code)
    arguments = ", ".join(["weights", *options])
    function.__doc__ = f"""{name} of the updates that :func:`calibrate` returns, at the originals' mean norm.

On dense matrices::

{textwrap.indent(dense_code(calibrate), "    ")}
{textwrap.indent(code, "    ")}
    def pico_{called}(deltas, {arguments}):
        return rescaled({called}(calibrate(deltas), {arguments}), deltas, weights)
"""
    implements(
        PICO[name].name,
        takes_module=True,
        full=None if inner.implementation.full is None else full,
    )(function)


for _name in PICO:
    _implement(_name)
