"""Merging without writing anything, to try many merges on one loaded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from prefdelta.adapters import Adapter, MemoryAdapter
from prefdelta.linalg.threads import one_thread
from prefdelta.merging.engine import merged_info, merged_modules, stored_dtype
from prefdelta.merging.inputs import prepare, refuse_base_copies
from prefdelta.merging.registry import Options
from prefdelta.merging.scale import Scale
from prefdelta.merging.statistics import MergeStatistics


def merge_in_memory(
    adapters: Sequence[Adapter],
    *,
    method: str,
    weights: Sequence[float] | None = None,
    scale: Scale = 1.0,
    options: Mapping[str, Any] | Options | None = None,
    extra_weights: Literal["refuse", "drop"] = "refuse",
) -> MemoryAdapter:
    """The adapter that :func:`prefdelta.merging.merge` writes, bit for bit, without writing it.

    It holds the merged update of all modules at once, in float64. The arguments are those of ``merge``.

    Raises:
        PrefdeltaError: the inputs do not fit together, or an argument is wrong.
    """
    inputs = prepare(
        adapters, None, method=method, options=options, weights=weights, scale=scale, extra_weights=extra_weights
    )
    if extra_weights == "refuse":
        refuse_base_copies(adapters)
    with one_thread():
        updates = dict(merged_modules(inputs, MergeStatistics(inputs), dtype=torch.float64))
    name = f"{method} of {', '.join(inputs.labels)}"
    return MemoryAdapter(name, updates, merged_info(adapters), stored_dtype(None, adapters))
