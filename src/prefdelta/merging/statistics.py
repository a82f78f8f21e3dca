"""Merge statistics: norms, cosines and kept projections, gathered module by module, and the warnings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

import torch

from prefdelta.core.names import list_names, public_name
from prefdelta.linalg.stack import Stack
from prefdelta.merging.inputs import Inputs
from prefdelta.merging.methods.average import shares
from prefdelta.merging.registry import Options
from prefdelta.merging.report import InputAdapter, MergeReport, ModuleReport, ratio
from prefdelta.merging.scale import factor_for

_DOMINANT = 5.0
_UNDETERMINED = 1e-6  # a principal cosine below this leaves an alignment to rounding


class Result(NamedTuple):
    """What a method made of one module, before any scale: M's shape and rank, ‖M‖, and ⟨M, ΔWᵢ⟩ of every adapter.

    ``kept_energy`` is the share of ‖M‖² that its rank left, ``notes`` are the method's own numbers.
    """

    module: str
    shape: tuple[int, int]
    rank: int
    norm: float
    inner: Sequence[float]
    kept_energy: float
    notes: Mapping[str, float]


class Measured(NamedTuple):
    """One scaled module: its report, ‖ΔWᵢ‖ and ⟨result, ΔWᵢ⟩ of every adapter."""

    entry: ModuleReport
    norms: Sequence[float]
    inner: Sequence[float]


def compared(inputs: Inputs, result: Result, present: Sequence[int], deltas: Stack) -> Measured:
    """Choose the factor on a module's result, and compare the scaled result with the updates.

    It is compared with their plain average too, if their cross products are known.

    Args:
        inputs: what is merged.
        result: the module as the method gave it.
        present: the positions of the adapters that have the module.
        deltas: the updates.
    """
    norms = deltas.norms()
    factor = factor_for(inputs.scale, norm=result.norm, inner=result.inner, norms=norms, weights=inputs.weights)
    share = torch.tensor(plain_shares(inputs.weights), dtype=torch.float64)
    average = math.sqrt(max(float(share @ deltas.gram() @ share), 0.0)) if deltas.gram_is_known else None
    agreement = math.copysign(1.0, factor) * float(share @ torch.tensor(result.inner, dtype=torch.float64))
    entry = ModuleReport(
        module=result.module,
        shape=result.shape,
        rank=result.rank,
        adapters=tuple(present),
        norm=abs(factor) * result.norm,
        average_norm=average,
        norm_ratio=None if average is None else ratio(abs(factor) * result.norm, average),
        cosine_to_average=None if average is None else ratio(agreement, result.norm * average),
        scale=factor,
        kept_energy=result.kept_energy,
        notes=result.notes,
    )
    return Measured(entry, norms, [factor * value for value in result.inner])


class MergeStatistics:
    """Sums over the modules of one merge."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._modules: list[ModuleReport] = []
        self._norms = [0.0] * len(inputs.adapters)  # squared, per adapter
        self._empty = [0] * len(inputs.adapters)
        self._inner = [0.0] * len(inputs.adapters)  # ⟨result, update⟩ over all modules

    def add(self, measured: Measured) -> None:
        """Count one module."""
        for index, (norm, inner) in enumerate(zip(measured.norms, measured.inner, strict=True)):
            self._norms[index] += norm**2
            self._inner[index] += inner
            self._empty[index] += index in measured.entry.adapters and norm == 0.0
        self._modules.append(measured.entry)

    def report(self, dtype: str, *, rank: int | str | None = None, stored_ranks: Sequence[int] = ()) -> MergeReport:
        """The report of all modules counted, with how the result is stored."""
        norm = math.sqrt(sum(entry.norm**2 for entry in self._modules))
        average = _whole([entry.average_norm for entry in self._modules])
        lost = sum(entry.norm**2 * (1 / entry.kept_energy - 1) for entry in self._modules if entry.kept_energy)
        cosines = [entry.notes["smallest_cosine"] for entry in self._modules if "smallest_cosine" in entry.notes]
        entries = tuple(
            InputAdapter(
                name=label,
                fingerprint=adapter.fingerprint,
                base_model=public_name(adapter.base_model),
                weight=weight,
                modules=len(adapter.modules),
                ranks=tuple(sorted({adapter.rank(module) for module in adapter.modules})),
                norm=math.sqrt(squared),
                kept_projection=ratio(inner, squared),
                empty_modules=empty,
                dropped_tensors=adapter.extra,
            )
            for label, adapter, weight, squared, inner, empty in zip(
                self._inputs.labels,
                self._inputs.adapters,
                self._inputs.weights,
                self._norms,
                self._inner,
                self._empty,
                strict=True,
            )
        )
        options = self._inputs.options
        kept = norm**2 / (norm**2 + lost) if lost else 1.0
        return MergeReport(
            version=metadata.version("prefdelta"),
            method=self._inputs.method.name,
            options=options.model_dump(mode="json"),
            scale=self._inputs.scale,
            rank=rank,
            dtype=dtype,
            adapters=entries,
            norm=norm,
            average_norm=average,
            norm_ratio=None if average is None else ratio(norm, average),
            cosine_to_average=None if average is None else ratio(self._inner_with_average(), norm * average),
            smallest_cosine=min(cosines, default=None),
            kept_energy=kept,
            stored_ranks=tuple(sorted(set(stored_ranks))),
            warnings=tuple(self._warnings(entries, kept, options, rank)),
            modules=tuple(sorted(self._modules, key=lambda entry: entry.module)),
        )

    def _inner_with_average(self) -> float:
        return sum(part * value for part, value in zip(plain_shares(self._inputs.weights), self._inner, strict=True))

    def _warnings(
        self, entries: Sequence[InputAdapter], kept: float, options: Options, rank: int | str | None
    ) -> Iterator[str]:
        if bases := different_bases(entry.base_model for entry in entries):
            yield f"the adapters name different base models ({list_names(bases)}); the first one's is kept."
        tasks = sorted({str(adapter.info.task_type) for adapter in self._inputs.adapters})
        if len(tasks) > 1:
            yield f"the adapters name different task types ({', '.join(tasks)}); the result names none."
        for entry in entries:
            if entry.dropped_tensors:
                yield f"{entry.name}: dropped the trained tensors {list_names(entry.dropped_tensors)}."
            if entry.norm == 0:
                yield f"{entry.name}: its update is zero everywhere; it was never trained."
            elif entry.empty_modules:
                yield f"{entry.name}: its update is zero in {entry.empty_modules} of {entry.modules} modules."
        partial = [entry.module for entry in self._modules if len(entry.adapters) < len(entries)]
        if partial:
            count = f"{len(partial)} of {len(self._modules)}"
            yield f"{count} modules are not adapted by every adapter ({list_names(partial)})."
        largest = max(entries, key=lambda entry: entry.norm)
        if times := times_the_others(largest.norm, [entry.norm for entry in entries if entry is not largest]):
            yield f"{largest.name}: its update is {times:.1f} times the median of the others, so it decides the merge."
        if kept < 1 - 1e-9:
            limit = "a limited rank" if rank is None else f"rank {rank}"
            yield f"truncation to {limit} kept {kept:.4f} of the merged update's squared norm."
        yield from self._alignment_warnings(options)

    def _alignment_warnings(self, options: Options) -> Iterator[str]:
        low = [entry.module for entry in self._modules if entry.notes.get("smallest_cosine", 1.0) < _UNDETERMINED]
        if low:
            yield (
                f"in {len(low)} modules some directions are orthogonal to the reference's ({list_names(low)}); "
                "their alignment is not determined."
            )
        wanted = getattr(options, "reference", None)
        moved = [entry.module for entry in self._modules if entry.notes.get("reference", wanted) != wanted]
        if moved:
            yield (
                f"in {len(moved)} modules the adapter of the largest rank stood in for the reference "
                f"({list_names(moved)})."
            )


def plain_shares(weights: Sequence[float]) -> list[float]:
    """The weights of the plain average that a merge is compared with; equal ones where they have no positive sum."""
    return shares(weights) if sum(weights) > 0 else shares([1.0] * len(weights))


def _whole(norms: Sequence[float | None]) -> float | None:
    """The norm over all modules, if each one's is known."""
    known = [norm for norm in norms if norm is not None]
    return math.sqrt(sum(norm**2 for norm in known)) if len(known) == len(norms) else None


def different_bases(models: Iterable[str | None]) -> list[str]:
    """The names of the adapters' base models, if they differ.

    The same model may go by a name on the Hub in one adapter and by a folder in another.
    """
    names = sorted({model or "(none)" for model in models})
    return names if len({name.rpartition("/")[2].lower() for name in names}) > 1 else []


def times_the_others(norm: float, others: Sequence[float]) -> float | None:
    """How many times the median of the other updates that are not zero one is, if so many that it dominates a merge."""
    present = [other for other in others if other]
    if not present or norm <= _DOMINANT * statistics.median(present):
        return None
    return norm / statistics.median(present)
