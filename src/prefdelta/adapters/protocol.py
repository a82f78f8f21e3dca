"""What every LoRA adapter gives, on disk (:class:`Adapter`) or in memory (:class:`MemoryAdapter`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from prefdelta.adapters.config import AdapterInfo
from prefdelta.linalg.lowrank import LowRank


class LoraAdapter(Protocol):
    """An adapter of named modules, each with an update ΔW = B A that holds all scaling."""

    @property
    def path(self) -> Path | str:
        """Its folder, or what to call it in messages."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The adapted modules under the base model's names, sorted."""

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of stored tensors that are no LoRA factors: fully trained modules."""

    @property
    def base_copies(self) -> tuple[str, ...]:
        """Names of the base's tables that are stored beside an adapted embedding or head."""

    @property
    def base_model(self) -> str | None:
        """The base model's name."""

    @property
    def info(self) -> AdapterInfo:
        """What a merge carries over from it."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its ``adapter_config.json``."""

    def shape(self, module: str) -> tuple[int, int]:
        """``(d_out, d_in)`` of a module's ΔW."""

    def load(self, module: str, dtype: torch.dtype = torch.float32) -> LowRank:
        """A module's update.

        Raises:
            PrefdeltaError: the module is not adapted, or a value does not fit the type.
        """

    def base_copy(self, name: str) -> Tensor:
        """A tensor of ``base_copies``."""

    def tensors(self) -> dict[str, Tensor]:
        """All stored tensors under PEFT's names."""
