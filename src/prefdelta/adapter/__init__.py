"""A PEFT LoRA adapter on disk, read and written as ``{module: LowRank}``."""

from prefdelta.adapter.config import AdapterInfo
from prefdelta.adapter.folder import staged_folder
from prefdelta.adapter.memory import MemoryAdapter
from prefdelta.adapter.reader import Adapter
from prefdelta.adapter.writer import SERVABLE_RANKS, servable_rank, write_adapter, write_files

__all__ = [
    "SERVABLE_RANKS",
    "Adapter",
    "AdapterInfo",
    "MemoryAdapter",
    "servable_rank",
    "staged_folder",
    "write_adapter",
    "write_files",
]
