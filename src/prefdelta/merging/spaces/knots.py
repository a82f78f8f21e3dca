"""KnOTS: one output basis for all updates, the rest of each update in coordinates over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.columns import Given
from prefdelta.merging.joint import core_basis
from prefdelta.merging.registry import Merged, Options
from prefdelta.merging.rules.stream import Stream
from prefdelta.merging.spaces.space import Coordinates, Space
from prefdelta.merging.stack import Stack
from prefdelta.merging.within import Within


class KnotsOptions(Options):
    """``shared``: which basis the updates share, that of the module's ``output`` (the paper's) or of its ``input``."""

    shared: Literal["output", "input"] = "output"


def enter(deltas: Sequence[LowRank], options: KnotsOptions) -> Coordinates:
    """Zᵢ = Uᵀ ΔWᵢ = S Vᵢᵀ, from the SVD [ΔW₁ … ΔW_N] = U S [V₁ᵀ … V_Nᵀ].

    As in the authors' code, the singular values belong to what is merged (S Vᵢᵀ), although the paper writes Vᵢ. The
    coordinates, which are many, are float32 unless the factors are wider; the basis is float64.

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ, and O(R d_in) entries for each update.
    """
    flipped = options.shared == "input"
    stack = Stack.of(deltas).T if flipped else Stack.of(deltas)
    u, _ = core_basis(stack)
    left = u.T @ stack.output_qr.R
    dtype = torch.float64 if torch.float64 in stack.dtypes else torch.float32
    inner = [
        LowRank(left[:, span].to(dtype), stack.inputs.block(index, dtype).T) for index, span in enumerate(stack.spans)
    ]

    def back(merged: RowBlocks) -> Merged:
        delta = Within(stack.turned(u), Given(stack.inputs, merged.dense().T))
        return Merged(delta.T if flipped else delta)

    return Coordinates(Stream.products(inner, dtype), back)


KNOTS = Space("knots-", "over the output basis that the updates share", "KnOTS, arXiv 2410.19735", KnotsOptions, enter)
