"""A PEFT LoRA adapter on disk, read and written as ``{module: LowRank}``."""

from prefdelta.adapters.config import AdapterInfo
from prefdelta.adapters.memory import MemoryAdapter
from prefdelta.adapters.protocol import LoraAdapter
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
