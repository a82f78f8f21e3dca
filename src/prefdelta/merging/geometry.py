"""The geometry of several adapters: norms, cosine similarities, shared subspaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from prefdelta.adapters import Adapter
from prefdelta.core.config import Frozen
from prefdelta.core.names import tell_apart
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.threads import one_thread
from prefdelta.merging.inputs import module_shapes

_TOLERANCE = 1e-7  # as GAM's: directions of rounding noise would otherwise count as shared or unshared ones


class Subspaces(Frozen):
    """How far two column spaces coincide, from the principal cosines c₁ ≥ … ≥ c_k between them, k the lesser rank.

    ``mean_cosine`` is Σ cⱼ / k, ``smallest_cosine`` is c_k. ``overlap`` is Σ cⱼ² / k, and ``overlap_by_chance`` what
    it would be on average for unrelated subspaces: the larger rank over the dimension.
    """

    mean_cosine: float
    smallest_cosine: float
    overlap: float
    overlap_by_chance: float


class ModulePair(Frozen):
    """One module of two adapters: the cosine of their updates, and their output (U) and input (V) subspaces."""

    module: str
    cosine: float
    norms: tuple[float, float]
    U: Subspaces
    V: Subspaces


class Pair(Frozen):
    """Two adapters. ``cosine`` is that of the whole updates; the subspace numbers are means over ``modules``.

    ``cosine`` counts a module that one of them lacks as zero there; ``modules`` holds those in which both have an
    update. ``norm_ratio`` is the second's norm over the first's. A number is ``None`` where it is not defined.
    """

    first: int
    second: int
    cosine: float | None
    norm_ratio: float | None
    overlap_u: float | None
    overlap_v: float | None
    mean_cosine_u: float | None
    mean_cosine_v: float | None
    overlap_by_chance_u: float | None
    overlap_by_chance_v: float | None
    modules: tuple[ModulePair, ...]


class Geometry(Frozen):
    """The adapters' names and whole norms ‖ΔW‖_F, and every pair of them."""

    names: tuple[str, ...]
    norms: tuple[float, ...]
    pairs: tuple[Pair, ...]


def compare(adapters: Sequence[Path | str]) -> Geometry:
    """Compare the updates of adapters of one base model, one module in memory at a time.

    Raises:
        PrefdeltaError: an adapter cannot be read, or a module has different shapes.
    """
    opened = [Adapter.open(path) for path in adapters]
    names = tell_apart([adapter.path for adapter in opened])
    pairs = list(combinations(range(len(opened)), 2))
    squares = [0.0] * len(opened)
    inner = dict.fromkeys(pairs, 0.0)
    found: dict[tuple[int, int], list[ModulePair]] = {pair: [] for pair in pairs}
    with one_thread():
        for module in module_shapes(opened, names):
            deltas = {
                index: adapter.load(module, torch.float64) for index, adapter in enumerate(opened) if module in adapter
            }
            parts = {index: Bases(delta) for index, delta in deltas.items()}
            for index, part in parts.items():
                squares[index] += part.norm**2
            for first, second in pairs:
                if first in parts and second in parts and parts[first].norm and parts[second].norm:
                    product = deltas[first].inner(deltas[second])
                    inner[first, second] += product
                    found[first, second].append(_compare_module(module, parts[first], parts[second], product))
    norms = [math.sqrt(square) for square in squares]
    return Geometry(
        names=tuple(names),
        norms=tuple(norms),
        pairs=tuple(_pair(pair, norms, inner[pair], found[pair]) for pair in pairs),
    )


class Bases:
    """One update's orthonormal bases, without directions that are rounding noise; its singular values and norm."""

    def __init__(self, delta: LowRank) -> None:
        self.U, self.S, self.V = delta.svd(_TOLERANCE)
        self.norm = float(self.S.norm())


def overlap_by_chance(first: Tensor, second: Tensor) -> float:
    """The overlap that unrelated subspaces with bases of these shapes have on average."""
    return max(first.shape[1], second.shape[1]) / first.shape[0]


def _compare_module(module: str, first: Bases, second: Bases, product: float) -> ModulePair:
    return ModulePair(
        module=module,
        cosine=product / (first.norm * second.norm),
        norms=(first.norm, second.norm),
        U=_subspaces(first.U, second.U),
        V=_subspaces(first.V, second.V),
    )


def _subspaces(first: Tensor, second: Tensor) -> Subspaces:
    cosines = torch.linalg.svdvals(first.T @ second)
    return Subspaces(
        mean_cosine=float(cosines.mean()),
        smallest_cosine=float(cosines.min()),
        overlap=float((cosines**2).mean()),
        overlap_by_chance=overlap_by_chance(first, second),
    )


def _pair(pair: tuple[int, int], norms: Sequence[float], product: float, modules: Sequence[ModulePair]) -> Pair:
    first, second = norms[pair[0]], norms[pair[1]]
    return Pair(
        first=pair[0],
        second=pair[1],
        cosine=product / (first * second) if first and second else None,
        norm_ratio=second / first if first else None,
        overlap_u=_mean([entry.U.overlap for entry in modules]),
        overlap_v=_mean([entry.V.overlap for entry in modules]),
        mean_cosine_u=_mean([entry.U.mean_cosine for entry in modules]),
        mean_cosine_v=_mean([entry.V.mean_cosine for entry in modules]),
        overlap_by_chance_u=_mean([entry.U.overlap_by_chance for entry in modules]),
        overlap_by_chance_v=_mean([entry.V.overlap_by_chance for entry in modules]),
        modules=tuple(modules),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
