"""Pico: tone down the output directions that many updates share, before any merge."""

from __future__ import annotations

from collections.abc import Sequence

from prefdelta.lowrank import LowRank
from prefdelta.merging.average import average
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


def _register(inner: Method) -> None:
    def function(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> Merged:
        norms = [delta.norm() for delta in deltas]
        present = [(abs(weight), norm) for weight, norm in zip(weights, norms, strict=True) if norm and weight]
        merged = inner.run(calibrate(deltas), weights=weights, options=options, module=module)
        size = merged.delta.norm()
        if not size or not present:
            return merged
        target = sum(weight * norm for weight, norm in present) / sum(weight for weight, _ in present)
        return Merged(merged.delta.scaled(target / size), {**merged.notes, "rescaled_by": target / size})

    function.__doc__ = (
        f"{inner.name} of the updates that :func:`calibrate` returns, rescaled to the mean norm of the originals."
    )
    method(
        f"pico-{inner.name}",
        summary=f"Tone down output directions that updates share, then {inner.name}, at the updates' mean norm.",
        paper=f"{_PAPER}; {inner.paper}",
        options=inner.options,
        takes_module=True,
    )(function)


for _inner in INNER:
    _register(_inner)
