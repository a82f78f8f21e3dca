"""An adapter on a backbone for the length of a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prefdelta.adapter import Adapter, MemoryAdapter
from prefdelta.evaluation.applying import target_modules
from prefdelta.learning.branches import adapter_on


@contextmanager
def with_adapter(model: nn.Module, adapter: Adapter | MemoryAdapter | None, scale: float = 1.0) -> Iterator[nn.Module]:
    """The model with ``scale`` times an adapter's update.

    Linear layers in float32 get the update folded into their weights, and their own bits back afterwards; a merge of
    high rank then costs what the backbone costs. Anything else gets it as a branch beside its weights, which rounds
    nothing.

    Raises:
        PrefdeltaError: the adapter does not fit the model.
    """
    if adapter is None:
        yield model
        return
    targets = target_modules(model, adapter)
    if not all(isinstance(module, nn.Linear) and module.weight.dtype == torch.float32 for module in targets.values()):
        with adapter_on(model, adapter, scale) as branched:
            yield branched
        return
    saved: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for name, module in targets.items():
                update = adapter.load(name, torch.float64)
                weight = module.weight
                assert isinstance(weight, Tensor)
                saved[name] = weight.detach().clone()
                weight.copy_(weight.double() + scale * (update.B @ update.A).to(weight.device))
        yield model
    finally:
        with torch.no_grad():
            for name, original in saved.items():
                weight = targets[name].weight
                assert isinstance(weight, Tensor)
                weight.copy_(original)
