"""Pico: tone down the output directions that many updates share, before any merge."""

from __future__ import annotations

from collections.abc import Sequence

from prefdelta.lowrank import LowRank
from prefdelta.merging.average import average
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.combined import COMBINED
from prefdelta.merging.joint import output_basis
from prefdelta.merging.registry import Merged, Method, Options, method
from prefdelta.merging.tsv import tsv_m

_PAPER = "Pico (Crowded in B-Space), arXiv 2604.16826"

INNER: tuple[Method, ...] = (average, COMBINED["ties"], tsv_m)
"""The methods that the paper puts Pico before; each gives a method ``pico-NAME`` with the same options."""


def calibrate(deltas: Sequence[LowRank]) -> list[LowRank]:
    """ΔW'ᵢ = (I + U diag(α - 1) Uᵀ) ΔWᵢ with αⱼ = 1 / (1 + (N - 1) cⱼ) and cⱼ = σⱼ² / Σ σ².

    U and σ are the left singular vectors and values of [ΔW₁ … ΔW_N]. The paper takes those of [B₁ … B_N], which
    depend on how each update is factored; with A's of orthonormal rows of one common length, as a random
    initialisation nearly has, the two agree. N counts the updates that are not zero.
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


def _register(inner: Method) -> None:
    def function(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> Merged:
        merged = inner.run(calibrate(deltas), weights=weights, options=options, module=module)
        factor = _rescaling(merged.delta.norm(), deltas, weights)
        if factor is None:
            return merged
        return Merged(merged.delta.scaled(factor), {**merged.notes, "rescaled_by": factor})

    def full(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> RowBlocks:
        assert inner.full is not None
        merged = inner.full(calibrate(deltas), weights=weights, options=options, module=module)
        factor = _rescaling(merged.norm(), deltas, weights)
        return merged if factor is None else merged.scaled(factor)

    function.__doc__ = (
        f"{inner.name} of the updates that :func:`calibrate` returns, rescaled to the mean norm of the originals."
    )
    method(
        f"pico-{inner.name}",
        summary=f"Tone down output directions that updates share, then {inner.name}, at the updates' mean norm.",
        paper=f"{_PAPER}; {inner.paper}",
        options=inner.options,
        takes_module=True,
        full=None if inner.full is None else full,
    )(function)


for _inner in INNER:
    _register(_inner)
