"""The measurements of an inspection, in one pass over the adapters' modules."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from prefdelta.adapters import Adapter
from prefdelta.adapters.trained import read_own_scale
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.names import list_names, public_name, tell_apart
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.threads import one_thread
from prefdelta.merging import get_method
from prefdelta.merging.geometry import Bases, overlap_by_chance
from prefdelta.merging.inputs import module_shapes
from prefdelta.merging.inspection.preview import PREVIEWED, Preview
from prefdelta.merging.inspection.results import (
    InspectedAdapter,
    InspectedModule,
    InspectedPair,
    Inspection,
    ModulePairs,
)
from prefdelta.merging.inspection.signs import SignTally, grid
from prefdelta.merging.statistics import different_bases, times_the_others


def inspect_adapters(
    adapters: Sequence[Path | str],
    *,
    methods: Sequence[str] = PREVIEWED,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Measure what adapters of one base model are to one another, one module in memory at a time.

    Everything comes from the factors. Norms, cosines, angles and ranks are exact; sign conflict is exact for modules
    of up to 256 x 256 and otherwise from a fixed sample of 256 rows and columns. The same inputs give the same numbers.

    Args:
        adapters: folders of PEFT LoRA adapters.
        methods: merge methods to preview, at their defaults; a few that matter if left out.
        progress: called with (modules done, modules in all).

    Raises:
        PrefdeltaError: an adapter cannot be read, a module has different shapes, or a method is unknown.
    """
    if not adapters:
        raise PrefdeltaError("there is nothing to inspect; give at least one adapter.")
    opened = [Adapter.open(path) for path in adapters]
    labels = tell_apart([adapter.path for adapter in opened])
    shapes = module_shapes(opened, labels)
    chosen = [get_method(name).name for name in methods]
    walk = _Walk(opened, shapes, [Preview(name) for name in chosen] if len(opened) > 1 else [])
    with one_thread():
        for done, module in enumerate(shapes, 1):
            walk.visit(module)
            if progress is not None:
                progress(done, len(shapes))
    return walk.result(labels)


class _Part(Bases):
    """One update's bases, norm, effective rank and sampled entries."""

    def __init__(self, delta: LowRank, rows: Tensor, columns: Tensor) -> None:
        super().__init__(delta)
        self.delta = delta
        self.entries = delta.B[rows] @ delta.A[:, columns]
        shares = (self.S / self.norm) ** 2 if self.norm else self.S
        self.effective_rank = math.exp(float(torch.special.entr(shares).sum())) if self.norm else None


@dataclass
class _PairTally:
    """One pair's sums over modules."""

    product: float = 0.0
    modules: list[InspectedPair] = field(default_factory=list)
    signs: SignTally = field(default_factory=SignTally)


class _Walk:
    def __init__(
        self, adapters: Sequence[Adapter], shapes: Mapping[str, tuple[int, int]], previews: Sequence[Preview]
    ) -> None:
        self._adapters = adapters
        self._shapes = shapes
        self._previews = previews
        self._modules: list[InspectedModule] = []
        self._module_pairs: list[ModulePairs] = []
        self._pairs = {pair: _PairTally() for pair in combinations(range(len(adapters)), 2)}
        self._sampled = 0

    def visit(self, module: str) -> None:
        shape = self._shapes[module]
        rows, columns = grid(module, shape)
        self._sampled += len(rows) * len(columns)
        deltas = [
            adapter.load(module, torch.float64) if module in adapter else LowRank.zero(shape)
            for adapter in self._adapters
        ]
        parts = [_Part(delta, rows, columns) for delta in deltas]
        adapted = [module in adapter for adapter in self._adapters]
        self._modules.append(
            InspectedModule(
                module=module,
                shape=shape,
                norms=tuple(part.norm if own else None for part, own in zip(parts, adapted, strict=True)),
                effective_ranks=tuple(part.effective_rank for part in parts),
                ranks=tuple(delta.rank if own else None for delta, own in zip(deltas, adapted, strict=True)),
            )
        )
        self._module_pairs.append(ModulePairs(module=module, pairs=tuple(self._compare(parts))))
        for preview in self._previews:
            preview.add(deltas, module)

    def _compare(self, parts: Sequence[_Part]) -> Iterator[InspectedPair]:
        for (first, second), tally in self._pairs.items():
            left, right = parts[first], parts[second]
            if not left.norm or not right.norm:
                continue
            product = left.delta.inner(right.delta)
            cosine = product / (left.norm * right.norm)
            (overlap_out, chance_out, angles_out) = _principal(left.U, right.U)
            (overlap_in, chance_in, angles_in) = _principal(left.V, right.V)
            tally.product += product
            tally.modules.append(
                InspectedPair(
                    first=first,
                    second=second,
                    cosine=cosine,
                    norm_ratio=right.norm / left.norm,
                    overlap_out=overlap_out,
                    overlap_in=overlap_in,
                    chance_out=chance_out,
                    chance_in=chance_in,
                    angles_out=angles_out,
                    angles_in=angles_in,
                    sign=tally.signs.add(left.entries, right.entries, cosine),
                )
            )
            yield tally.modules[-1]

    def result(self, labels: Sequence[str]) -> Inspection:
        """The inspection after the last module."""
        adapters = tuple(self._adapter(index, label) for index, label in enumerate(labels))
        pairs = tuple(
            _whole(first, second, adapters, tally) for (first, second), tally in self._pairs.items() if tally.modules
        )
        return Inspection(
            version=metadata.version("prefdelta"),
            adapters=adapters,
            modules=tuple(self._modules),
            pairs=pairs,
            module_pairs=tuple(self._module_pairs),
            methods=tuple(preview.result for preview in self._previews),
            sampled_entries=self._sampled,
            warnings=tuple(self._warnings(adapters)),
        )

    def _adapter(self, index: int, label: str) -> InspectedAdapter:
        adapter = self._adapters[index]
        own = read_own_scale(adapter.path)
        norms = [norm for entry in self._modules if (norm := entry.norms[index]) is not None]
        ranks = [rank for entry in self._modules if (rank := entry.effective_ranks[index]) is not None]
        return InspectedAdapter(
            name=label,
            fingerprint=adapter.fingerprint,
            base_model=public_name(adapter.base_model),
            modules=len(adapter.modules),
            ranks=tuple(sorted({adapter.rank(module) for module in adapter.modules})),
            norm=math.hypot(*norms),
            effective_rank=statistics.fmean(ranks) if ranks else None,
            coverage=len(ranks) / len(self._modules),
            empty=len(norms) - len(ranks),
            own_scale=own.scale if own else None,
        )

    def _warnings(self, adapters: Sequence[InspectedAdapter]) -> Iterator[str]:
        if bases := different_bases(entry.base_model for entry in adapters):
            yield f"the adapters name different base models ({list_names(bases)})."
        for entry, adapter in zip(adapters, self._adapters, strict=True):
            if entry.norm == 0:
                yield f"{entry.name}: its update is zero everywhere; it was never trained."
            elif entry.empty:
                yield f"{entry.name}: its update is zero in {entry.empty} of {entry.modules} modules."
            if adapter.extra:
                yield f"{entry.name}: holds fully trained tensors that no merge keeps ({list_names(adapter.extra)})."
            if times := times_the_others(entry.norm, [other.norm for other in adapters if other is not entry]):
                yield f"{entry.name}: its update is {times:.1f} times the median of the others and swamps a merge."
        partial = [entry.module for entry in self._modules if None in entry.norms]
        if partial:
            count = f"{len(partial)} of {len(self._modules)}"
            yield f"{count} modules are not adapted by every adapter ({list_names(partial)})."


def _principal(first: Tensor, second: Tensor) -> tuple[float, float, tuple[float, float]]:
    """Overlap, its value by chance, and the extreme principal angles in degrees of two orthonormal bases."""
    cosines = torch.linalg.svdvals(first.T @ second).clamp(max=1.0)
    angles = torch.rad2deg(torch.acos(cosines))
    return float((cosines**2).mean()), overlap_by_chance(first, second), (float(angles.min()), float(angles.max()))


def _whole(first: int, second: int, adapters: Sequence[InspectedAdapter], tally: _PairTally) -> InspectedPair:
    norms = adapters[first].norm, adapters[second].norm

    def mean(name: str) -> float:
        return statistics.fmean(getattr(entry, name) for entry in tally.modules)

    def mean_angles(name: str) -> tuple[float, float]:
        low, high = zip(*(getattr(entry, name) for entry in tally.modules), strict=True)
        return statistics.fmean(low), statistics.fmean(high)

    return InspectedPair(
        first=first,
        second=second,
        cosine=tally.product / (norms[0] * norms[1]),
        norm_ratio=norms[1] / norms[0],
        overlap_out=mean("overlap_out"),
        overlap_in=mean("overlap_in"),
        chance_out=mean("chance_out"),
        chance_in=mean("chance_in"),
        angles_out=mean_angles("angles_out"),
        angles_in=mean_angles("angles_in"),
        sign=tally.signs.conflict,
    )
