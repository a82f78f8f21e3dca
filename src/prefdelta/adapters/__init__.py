"""A PEFT LoRA adapter on disk, read and written as ``{module: LowRank}``.

What needs torch is imported when it is first used: much of prefdelta only passes adapters on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdelta.core.lazy import lazily

if TYPE_CHECKING:
    from prefdelta.adapters.config import AdapterInfo
    from prefdelta.adapters.memory import LoraAdapter, MemoryAdapter
    from prefdelta.adapters.reader import Adapter
    from prefdelta.adapters.writer import SERVABLE_RANKS, servable_rank, write_adapter, write_files

__all__ = [
    "SERVABLE_RANKS",
    "Adapter",
    "AdapterInfo",
    "LoraAdapter",
    "MemoryAdapter",
    "servable_rank",
    "write_adapter",
    "write_files",
]

__getattr__ = lazily(
    __name__,
    {
        "SERVABLE_RANKS": "writer",
        "Adapter": "reader",
        "AdapterInfo": "config",
        "LoraAdapter": "memory",
        "MemoryAdapter": "memory",
        "servable_rank": "writer",
        "write_adapter": "writer",
        "write_files": "writer",
    },
)
