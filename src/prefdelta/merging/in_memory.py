"""Merging without writing anything, to try many merges on one loaded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from prefdelta.adapter import Adapter, MemoryAdapter
from prefdelta.merging.engine import Walk, merged_info, stored_dtype
from prefdelta.merging.inputs import check_arguments, common_modules
from prefdelta.merging.labels import tell_apart
from prefdelta.merging.registry import Options, get_method
from prefdelta.merging.scale import Scale
from prefdelta.merging.tally import Tally
from prefdelta.merging.threads import one_thread


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
    chosen = get_method(method)
    checked = chosen.parse(options)
    check_arguments(adapters, None, weights, scale, None, extra_weights)
    labels = tell_apart([adapter.path for adapter in adapters])
    factors = [1.0] * len(adapters) if weights is None else list(weights)
    walk = Walk(adapters, chosen, checked, factors, scale, None, torch.float64)
    with one_thread():
        updates = dict(walk.stream(common_modules(adapters, labels), Tally(adapters, labels, factors), None))
    name = f"{method} of {', '.join(labels)}"
    return MemoryAdapter(name, updates, merged_info(adapters), stored_dtype(None, adapters))
