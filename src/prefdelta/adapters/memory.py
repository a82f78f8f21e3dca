"""An adapter that was never written: what is in memory behaves as its folder would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prefdelta.adapters.config import AdapterInfo, merged_config
from prefdelta.adapters.names import PREFIX
from prefdelta.adapters.reader import Adapter
from prefdelta.adapters.storage import split_name
from prefdelta.adapters.writer import common_ranks
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank


class MemoryAdapter:
    """Merged updates in memory, read as :class:`prefdelta.adapters.Adapter` reads them from the folder that
    :func:`prefdelta.adapters.write_adapter` makes of them: rounded to the stored type, every number the same.

    Args:
        name: what to call it in messages.
        updates: module names with their updates, in float64 and with all scaling in the factors.
        info: the base model and task it belongs to.
        dtype: the type its factors would be stored in.
    """

    extra: tuple[str, ...] = ()

    def __init__(self, name: str, updates: Mapping[str, LowRank], info: AdapterInfo, dtype: torch.dtype) -> None:
        self.path = name
        self.info = info
        self.modules = tuple(sorted(updates))
        self._updates = updates
        self._dtype = dtype
        # PEFT knows no rank 0, so a zero update is stored as one zero column.
        self._ranks = common_ranks({module: max(update.rank, 1) for module, update in updates.items()}, info)

    def __str__(self) -> str:
        return self.path

    @property
    def base_model(self) -> str | None:
        """The base model's name."""
        return self.info.base_model

    @property
    def config(self) -> dict[str, Any]:
        """What its ``adapter_config.json`` would say."""
        return merged_config(self.info, self._ranks)

    def scaled(self, factor: float) -> MemoryAdapter:
        """The adapter with ``factor`` times the update; the factors stay balanced."""
        updates = {module: update.scaled(factor).balanced() for module, update in self._updates.items()}
        return MemoryAdapter(self.path, updates, self.info, self._dtype)

    def shape(self, module: str) -> tuple[int, int]:
        """``(d_out, d_in)`` of a module's ΔW."""
        return self._updates[module].shape

    def load(self, module: str, dtype: torch.dtype = torch.float32) -> LowRank:
        """A module's update as its folder would give it.

        Raises:
            PrefdeltaError: a value does not fit the stored type.
        """
        stored = self._updates[module].to(self._dtype)
        if not bool(torch.isfinite(stored.B).all() & torch.isfinite(stored.A).all()):
            raise PrefdeltaError(f"{self}: module {module} has values that {self._dtype} cannot hold.")
        # PEFT knows no rank 0, so a zero update is stored as one zero column.
        return stored.padded(max(stored.rank, 1)).to(dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors under PEFT's names, in the stored type."""
        named: dict[str, Tensor] = {}
        for layer in dict.fromkeys(split_name(module)[0] for module in self.modules):
            stored = self.info.stored(layer)
            updates = [self.load(module, self._dtype).padded(self._ranks[module]) for module in stored.modules(layer)]
            for name, factor in zip(stored.names, stored.packed(updates), strict=True):
                named[f"{PREFIX}{layer}.{name}"] = factor.contiguous()
        return named


LoraAdapter = Adapter | MemoryAdapter
"""An adapter on disk or in memory."""
