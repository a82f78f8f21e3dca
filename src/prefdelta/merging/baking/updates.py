"""Where the updates that are baked come from, as rows of the weights they are added to."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from prefdelta.adapters import Adapter
from prefdelta.core.names import list_names
from prefdelta.linalg.best_rank import RowBlocks
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.merging.baking.report import BakedAdapter
from prefdelta.merging.baking.spill import Spill
from prefdelta.merging.engine import merged_info
from prefdelta.merging.inputs import Inputs, module_shapes, updates_of
from prefdelta.merging.report import MergeReport
from prefdelta.merging.statistics import MergeStatistics, Result, compared

Rows = Callable[[int, int], Tensor]
"""``rows(first, count)``: rows of the scaled update as its weight is stored, float64."""


class AdapterUpdates:
    """The updates of one adapter, times λ.

    Attributes:
        owner: whose they are, for messages.
        shapes: (d_out, d_in) of every module's ΔW.
        base_model: the model they were made for, as far as it is named.
    """

    def __init__(self, adapter: Adapter, scale: float) -> None:
        self._adapter = adapter
        self._scale = scale
        self.owner = str(adapter.path)
        self.shapes: Mapping[str, tuple[int, int]] = {module: adapter.shape(module) for module in adapter.modules}
        self.base_model = adapter.base_model

    @contextmanager
    def rows(self, module: str, transposed: bool, scratch: Path) -> Iterator[Rows]:
        """One module's update, transposed if its weight is; ``scratch`` is a folder for temporary files."""
        yield factor_rows(self._adapter.load(module, torch.float64).scaled(self._scale), transposed)

    def origin(self) -> tuple[tuple[BakedAdapter, ...], float | str, MergeReport | None]:
        """What they were made of, known when all of it has been baked: adapters, scale, report of the merge."""
        adapter = BakedAdapter(name=self._adapter.name, fingerprint=self._adapter.fingerprint)
        return (adapter,), self._scale, None


class MergedUpdates:
    """The updates of a merge, made module by module as they are baked; otherwise as :class:`AdapterUpdates`."""

    def __init__(self, inputs: Inputs, dtype: str) -> None:
        self._inputs = inputs
        self._dtype = dtype
        self._statistics = MergeStatistics(inputs)
        self.owner = f"the merge of {list_names(inputs.labels)}"
        self.base_model = merged_info(inputs.adapters).base_model
        self.shapes: Mapping[str, tuple[int, int]] = module_shapes(inputs.adapters, inputs.labels)

    @contextmanager
    def rows(self, module: str, transposed: bool, scratch: Path) -> Iterator[Rows]:
        """One module's merged update, scaled."""
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
        measured = compared(self._inputs, result, present, deltas)
        self._statistics.add(measured)
        return measured.entry.scale

    def origin(self) -> tuple[tuple[BakedAdapter, ...], float | str, MergeReport | None]:
        """The adapters and the report of their merge."""
        merge = self._statistics.report(self._dtype)
        adapters = tuple(BakedAdapter(name=entry.name, fingerprint=entry.fingerprint) for entry in merge.adapters)
        return adapters, merge.scale, merge


Updates = AdapterUpdates | MergedUpdates


def factor_rows(update: LowRank, transposed: bool) -> Rows:
    """Rows of a low-rank update or of its transpose, multiplied out as they are asked for."""
    stored = update.T if transposed else update
    return lambda first, count: LowRank(stored.B[first : first + count], stored.A).dense()


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
