"""The merged model of learned coefficients: as branches beside the base's weights, or folded into one adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from prefdelta.adapters import Adapter, MemoryAdapter
from prefdelta.adapters.applied import check_tables, target_modules
from prefdelta.core.names import tell_apart
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.threads import one_thread
from prefdelta.merging.engine import merged_info, stored_dtype
from prefdelta.merging.inputs import common_modules, updates_of
from prefdelta.merging.learned.branches import branches, on_module_device
from prefdelta.merging.learned.coefficients import Layout
from prefdelta.merging.learned.directions import Directions
from prefdelta.merging.learned.methods import get_learned
from prefdelta.merging.registry import Options

Given = Mapping[str, Any] | Options | None
"""Options of a learned merge; those left out take their defaults."""


def directions_and_layout(
    model: nn.Module, adapters: Sequence[Adapter], method: str, options: Given = None
) -> tuple[dict[str, Directions], Layout]:
    """Every module's directions, on the model's device, and where their coefficients are in φ.

    Raises:
        PrefdeltaError: the adapters do not fit together or the model, one holds a table that differs from the model's,
            or there is no such method or option.
    """
    for adapter in adapters:
        target_modules(model, adapter)
        check_tables(model, adapter)
    parts = {module: on_module_device(model, module, found) for module, found in _directions(adapters, method, options)}
    return parts, _layout({module: found.shape for module, found in parts.items()}, method)


@contextmanager
def merged_model(
    model: nn.Module,
    adapters: Sequence[Adapter],
    *,
    method: str,
    options: Given = None,
    coefficients: Mapping[str, Tensor],
) -> Iterator[nn.Module]:
    """The model with a learned merge beside its weights, unfolded: what a stored ``coefficients.safetensors`` means.

    Args:
        model: the adapters' base.
        adapters: those that were merged, in the same order.
        method: how.
        options: the method's own, as they were.
        coefficients: what was learned, as it is stored.

    Raises:
        PrefdeltaError: the coefficients are not of this method and these adapters.
    """
    parts, layout = directions_and_layout(model, adapters, method, options)
    vector = layout.vector(coefficients).to(next(iter(parts.values())).left.device)
    with branches(model, parts, lambda module: layout.of(vector, module)) as branched:
        yield branched


def folded_adapter(
    adapters: Sequence[Adapter], *, method: str, options: Given = None, coefficients: Mapping[str, Tensor]
) -> MemoryAdapter:
    """The adapter that coefficients make, in memory; arguments and errors are those of :func:`merged_model`."""
    layout = _layout({module: found.shape for module, found in _directions(adapters, method, options)}, method)
    updates = dict(folded(adapters, method, options, layout, layout.vector(coefficients)))
    return MemoryAdapter(f"learned {method}", updates, merged_info(adapters), stored_dtype(None, adapters))


def folded(
    adapters: Sequence[Adapter], method: str, options: Given, layout: Layout, vector: Tensor
) -> Iterator[tuple[str, LowRank]]:
    """Module by module the update that coefficients make, in float64."""
    for module, directions in _directions(adapters, method, options):
        yield module, directions.fold(layout.of(vector.double(), module)).balanced()


def save_coefficients(layout: Layout, vector: Tensor, path: Path) -> None:
    """Store coefficients by module."""
    save_file({name: value.cpu().contiguous() for name, value in layout.named(vector).items()}, path)


def _directions(adapters: Sequence[Adapter], method: str, options: Given) -> Iterator[tuple[str, Directions]]:
    """Module by module, in float64."""
    chosen = get_learned(method)
    checked = chosen.parse(options, len(adapters))
    for module in common_modules(adapters, tell_apart([adapter.path for adapter in adapters])):
        with one_thread():  # they are computed for learning and again for folding, and must be the same
            found = chosen.function(updates_of(adapters, module)[1], checked)
        yield module, found


def _layout(shapes: Mapping[str, tuple[int, ...]], method: str) -> Layout:
    return Layout(shapes, tied=get_learned(method).tied)
