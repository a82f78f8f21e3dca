"""Merging adapters straight into their base model: no adapter in between, and so no limit on the rank."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from prefdelta.core.names import list_names
from prefdelta.linalg.best_rank import RowBlocks
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.merging.baking.bake import Dtype, bake, open_base
from prefdelta.merging.baking.report import ApplyReport, BakedAdapter
from prefdelta.merging.baking.spill import Spill
from prefdelta.merging.baking.updates import Origin, Rows, factor_rows
from prefdelta.merging.engine import merged_info
from prefdelta.merging.inputs import Inputs, module_shapes, prepare, refuse_base_copies, updates_of
from prefdelta.merging.registry import Options
from prefdelta.merging.scale import Scale
from prefdelta.merging.statistics import MergeStatistics, Result, compared
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

    Everything else is as in :func:`prefdelta.merging.baking.apply_adapter`: memory does not grow with the model, and
    the output appears whole or not at all. One module's full-rank update at a time lies in a temporary file beside the
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
    target = Path(output)
    inputs = prepare(
        adapters, target, method=method, options=options, weights=weights, scale=scale, extra_weights=extra_weights
    )
    model = open_base(base)
    if extra_weights == "refuse":
        refuse_base_copies(inputs.adapters, model.folder)
    updates = MergedUpdates(inputs, scale, dtype)
    return bake(model, updates, target, dtype=dtype, overwrite=overwrite, progress=progress)


class MergedUpdates:
    """The updates of a merge, made module by module as they are baked."""

    def __init__(self, inputs: Inputs, scale: Scale, dtype: str) -> None:
        self._inputs = inputs
        self._scale = scale
        self._dtype = dtype
        self._statistics = MergeStatistics(inputs)
        self._info = merged_info(inputs.adapters)
        self.owner = f"the merge of {list_names(inputs.labels)}"
        self.base_model = self._info.base_model
        self.shapes: Mapping[str, tuple[int, int]] = module_shapes(inputs.adapters, inputs.labels)

    @contextmanager
    def rows(self, module: str, transposed: bool, scratch: Path) -> Iterator[Rows]:
        """One module's merged update, scaled; see :class:`prefdelta.merging.baking.updates.Updates`."""
        inputs = self._inputs
        present, deltas = updates_of(inputs.adapters, module)
        deltas.multiply_pairs()  # little beside a base model's weights, and the result is compared with the average
        # An option ``rank`` is a wish to cut; without it, nothing needs to be.
        full = inputs.method.implementation.full
        if full is not None and getattr(inputs.options, "rank", None) is None:
            with tempfile.TemporaryFile(dir=scratch) as handle:
                shape = self.shapes[module]
                spill = Spill(handle, shape, transposed)
                norm, inner = _spilled(
                    full(deltas, weights=inputs.weights, options=inputs.options, module=module), deltas, spill
                )
                factor = self._measure(Result(module, shape, min(shape), norm, inner, 1.0, {}), present, deltas)
                yield lambda first, count: spill.rows(first, count).double() * factor
        else:
            merged = inputs.method.run(deltas, weights=inputs.weights, options=inputs.options, module=module)
            delta, kept = merged.delta, merged.notes.get("kept_energy", 1.0)
            inner = deltas.inner(delta).tolist()
            result = Result(module, delta.shape, delta.rank, delta.norm(), inner, kept, merged.notes)
            yield factor_rows(delta.scaled(self._measure(result, present, deltas)), transposed)

    def _measure(self, result: Result, present: Sequence[int], deltas: Stack) -> float:
        measured = compared(result, present, deltas, weights=self._inputs.weights, scale=self._scale)
        self._statistics.add(measured)
        return measured.entry.scale

    def origin(self) -> Origin:
        """The adapters and the report of their merge."""
        merge = self._statistics.report(
            self._info,
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
