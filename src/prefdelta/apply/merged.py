"""Merging adapters straight into their base model: no adapter in between, and so no limit on the rank."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from prefdelta.adapter import Adapter
from prefdelta.apply.bake import Dtype, bake, open_base
from prefdelta.apply.report import ApplyReport, BakedAdapter
from prefdelta.apply.spill import Spill
from prefdelta.apply.updates import Origin, Rows, factor_rows
from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.engine import merged_info
from prefdelta.merging.gram import inner_products
from prefdelta.merging.inputs import check_arguments, common_modules, updates_of
from prefdelta.merging.labels import tell_apart
from prefdelta.merging.registry import Blocks, Method, Options, get_method
from prefdelta.merging.report import list_names
from prefdelta.merging.scale import Scale
from prefdelta.merging.stack import Stack
from prefdelta.merging.tally import Result, Tally, compared
from prefdelta.recipe import ModelRef


def apply_merge(
    base: ModelRef | Path | str,
    adapters: Sequence[Path | str],
    output: Path | str,
    *,
    method: str,
    weights: Sequence[float] | None = None,
    scale: Scale = 1.0,
    options: Mapping[str, Any] | Options | None = None,
    dtype: Dtype = "auto",
    extra_weights: Literal["refuse", "drop"] = "refuse",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ApplyReport:
    """Merge LoRA adapters and bake the result into their base: every adapted weight becomes round(W + λ M).

    Methods that work entry by entry on ΔW (``ties``, ``dare``, … in the full space) have results of full rank. Here
    they are added as they are, computed in float32 block by block; nothing is cut, unless the option ``rank`` asks
    for it. Every other method gives what :func:`prefdelta.merging.merge` would store, but unrounded.

    Everything else is as in :func:`prefdelta.apply.apply_adapter`: memory does not grow with the model, and the
    output appears whole or not at all. One module's full-rank update at a time lies in a temporary file beside the
    output, four bytes an entry. ``prefdelta_apply.json`` holds the report of the merge too.

    Args:
        base: a model folder with safetensors weights.
        adapters: PEFT LoRA adapters of it; their order is the order of ``weights``.
        output: the folder to make.
        method: a name of :data:`prefdelta.merging.METHODS`.
        weights: one per adapter, all 1 if left out; the method says what they mean.
        scale: λ, or ``"norm-matched"`` or ``"projection"``, as in a merge.
        options: the method's own options.
        dtype: store floating-point weights in this type; ``"auto"`` keeps each tensor's own.
        extra_weights: what to do with fully trained tensors beside the factors: refuse them, or drop them.
        overwrite: replace a folder that is there already.
        progress: called with (bytes written, bytes in all).

    Raises:
        PrefdeltaError: an input cannot be read, inputs do not fit together or do not fit the base, an argument is
            wrong, a sum does not fit the type, or the output cannot be written. Nothing is left behind.
    """
    chosen = get_method(method)
    checked = chosen.parse(options)
    opened = [Adapter.open(path) for path in adapters]
    check_arguments(opened, Path(output), weights, scale, None, extra_weights)
    factors = [1.0] * len(opened) if weights is None else list(weights)
    updates = MergedUpdates(opened, chosen, checked, factors, scale, dtype)
    return bake(open_base(base), updates, Path(output), dtype=dtype, overwrite=overwrite, progress=progress)


class MergedUpdates:
    """The updates of a merge, made module by module as they are baked."""

    def __init__(
        self,
        adapters: Sequence[Adapter],
        method: Method,
        options: Options,
        weights: Sequence[float],
        scale: Scale,
        dtype: str,
    ) -> None:
        labels = tell_apart([adapter.path for adapter in adapters])
        self._adapters = adapters
        self._method = method
        self._options = options
        self._weights = weights
        self._scale = scale
        self._dtype = dtype
        self._tally = Tally(adapters, labels, weights)
        self._info = merged_info(adapters)
        self.owner = f"the merge of {list_names(labels)}"
        self.base_model = self._info.base_model
        self.shapes: Mapping[str, tuple[int, int]] = {
            module: next(adapter.shape(module) for adapter in adapters if module in adapter.modules)
            for module in common_modules(adapters, labels)
        }

    @contextmanager
    def rows(self, module: str, transposed: bool, scratch: Path) -> Iterator[Rows]:
        """One module's merged update, scaled; see :class:`prefdelta.apply.updates.Updates`."""
        present, deltas = updates_of(self._adapters, module)
        deltas.multiply_pairs()  # little beside a base model's weights, and the result is compared with the average
        # An option ``rank`` is a wish to cut; without it, nothing needs to be.
        if self._method.full is not None and getattr(self._options, "rank", None) is None:
            with tempfile.TemporaryFile(dir=scratch) as handle:
                shape = self.shapes[module]
                spill = Spill(handle, shape, transposed)
                norm, inner = _spilled(self._blocks(self._method.full, deltas, module), deltas, spill)
                factor = self._measure(Result(module, shape, min(shape), norm, inner, 1.0, {}), present, deltas)
                yield lambda first, count: spill.rows(first, count).double() * factor
        else:
            merged = self._method.run(deltas, weights=self._weights, options=self._options, module=module)
            delta, kept = merged.delta, merged.notes.get("kept_energy", 1.0)
            inner = inner_products(delta, deltas)
            result = Result(module, delta.shape, delta.rank, delta.norm(), inner, kept, merged.notes)
            yield factor_rows(delta.scaled(self._measure(result, present, deltas)), transposed)

    def _blocks(self, full: Blocks, deltas: Sequence[LowRank], module: str) -> RowBlocks:
        return full(deltas, weights=self._weights, options=self._options, module=module)

    def _measure(self, result: Result, present: Sequence[int], deltas: Stack) -> float:
        measured = compared(result, present, deltas, weights=self._weights, scale=self._scale)
        self._tally.add(measured)
        return measured.entry.scale

    def origin(self) -> Origin:
        """The adapters and the report of their merge."""
        merge = self._tally.report(
            self._info,
            method=self._method,
            options=self._options,
            scale=self._scale,
            rank=None,
            dtype=self._dtype,
            stored_ranks=(),
        )
        adapters = tuple(BakedAdapter(name=entry.name, fingerprint=entry.fingerprint) for entry in merge.adapters)
        return Origin(adapters, self._scale, merge)


def _spilled(blocks: RowBlocks, deltas: Sequence[LowRank], spill: Spill) -> tuple[float, list[float]]:
    """Write every block away; ‖M‖ and ⟨M, ΔWᵢ⟩ of the whole on the way."""
    energy, inner = 0.0, [0.0] * len(deltas)
    for row, block in blocks.walk():
        spill.add(block)
        exact = block.double()
        energy += float(exact.square().sum())
        for index, delta in enumerate(deltas):
            inner[index] += float(((exact @ delta.A.T) * delta.B[row : row + len(block)]).sum())
    return math.sqrt(energy), inner
