"""Writing a PEFT LoRA adapter module by module, so that memory stays at one module whatever the adapter's size."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import torch
from torch import Tensor

from prefdelta.adapter.config import CONFIG_NAME, AdapterInfo, merged_config
from prefdelta.adapter.folder import staged_folder
from prefdelta.adapter.reader import PREFIX, SAFETENSORS_NAME, magnitude
from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank

SERVABLE_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of ``--max-lora-rank`` that vLLM accepts."""

DTYPE_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_SPILL = ".factors"


class _Entry(NamedTuple):
    """Where one module's factors lie in the spill file, A before B, each row by row."""

    module: str
    shape: tuple[int, int]
    rank: int
    offset: int


def servable_rank(rank: int) -> int:
    """The smallest rank vLLM can serve that holds ``rank``.

    Raises:
        PrefdeltaError: ``rank`` exceeds the largest one.
    """
    for candidate in SERVABLE_RANKS:
        if rank <= candidate:
            return candidate
    raise PrefdeltaError(f"rank {rank} exceeds {SERVABLE_RANKS[-1]}, the largest that vLLM serves; give a lower rank.")


def write_adapter(
    folder: Path,
    modules: Iterable[tuple[str, LowRank]],
    *,
    like: AdapterInfo,
    dtype: torch.dtype = torch.float32,
    rank: int | Literal["servable"] | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write an adapter folder that PEFT loads, whole or not at all; returns the rank each module is stored with.

    Equal updates give equal bytes. All scaling is in the factors (alpha = r).

    Args:
        folder: the new folder.
        modules: module names with their updates, consumed one at a time.
        like: the base model and task the adapter belongs to.
        dtype: the type the factors are stored in.
        rank: pad every module with zeros to this rank, or to the least rank vLLM serves; ``None`` keeps each as is.
        overwrite: replace a folder that is there already.

    Raises:
        PrefdeltaError: the folder is not empty, the disk is full, a module comes twice or has a larger rank than
            ``rank``, there are no modules, or a value does not fit ``dtype``.
    """
    with staged_folder(folder, overwrite=overwrite) as staging:
        return write_files(staging, modules, like=like, dtype=dtype, rank=rank)


def write_files(
    folder: Path,
    modules: Iterable[tuple[str, LowRank]],
    *,
    like: AdapterInfo,
    dtype: torch.dtype = torch.float32,
    rank: int | Literal["servable"] | None = None,
) -> dict[str, int]:
    """Write the two files of :func:`write_adapter` into an existing folder, with no care for atomicity."""
    if dtype not in DTYPE_NAMES:
        raise PrefdeltaError(f"adapters are stored as float64, float32, bfloat16 or float16, not {dtype}.")
    spill = folder / _SPILL
    with spill.open("w+b") as handle:
        entries = _spill(modules, handle, dtype)
        ranks = _stored_ranks(entries, rank)
        _assemble(folder / SAFETENSORS_NAME, handle, entries, ranks, like, dtype)
    spill.unlink()
    text = json.dumps(merged_config(like, ranks), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    return ranks


def _spill(modules: Iterable[tuple[str, LowRank]], handle: BinaryIO, dtype: torch.dtype) -> list[_Entry]:
    """Append every module's factors to one file: the header of the real file needs all ranks, which come last."""
    entries: dict[str, _Entry] = {}
    for module, delta in modules:
        if module in entries:
            raise PrefdeltaError(f"module {module} comes twice.")
        entries[module] = _Entry(module, delta.shape, delta.rank, handle.tell())
        for factor in (delta.A, delta.B):
            stored = factor.to(dtype)
            if not math.isfinite(magnitude(stored)):
                raise PrefdeltaError(f"module {module} has values that {dtype} cannot hold; choose a wider dtype.")
            handle.write(_bytes(stored))
    if not entries:
        raise PrefdeltaError("there are no modules to write.")
    return [entries[module] for module in sorted(entries)]


def _stored_ranks(entries: Iterable[_Entry], rank: int | Literal["servable"] | None) -> dict[str, int]:
    # PEFT refuses rank 0: a zero update is stored as one zero column.
    ranks = {entry.module: max(entry.rank, 1) for entry in entries}
    if rank is None:
        return ranks
    widest = max(ranks, key=lambda module: ranks[module])
    target = servable_rank(ranks[widest]) if rank == "servable" else rank
    if ranks[widest] > target:
        raise PrefdeltaError(f"module {widest} has rank {ranks[widest]}, more than the asked rank {target}.")
    return dict.fromkeys(ranks, target)


def _assemble(
    path: Path,
    spill: BinaryIO,
    entries: Iterable[_Entry],
    ranks: Mapping[str, int],
    like: AdapterInfo,
    dtype: torch.dtype,
) -> None:
    """Write the safetensors file: 8 bytes of header length, the JSON header, the tensors in the header's order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    listed = list(entries)
    for entry in listed:
        embedding = entry.module in like.embeddings
        names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
        rank = ranks[entry.module]
        for name, shape in zip(names, ((rank, entry.shape[1]), (entry.shape[0], rank)), strict=True):
            end = offset + shape[0] * shape[1] * dtype.itemsize
            header[f"{PREFIX}{entry.module}.{name}"] = {
                "dtype": DTYPE_NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [offset, end],
            }
            offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for entry in listed:
            padded = _read_back(spill, entry, dtype).padded(ranks[entry.module])
            out.write(_bytes(padded.A))
            out.write(_bytes(padded.B))


def _read_back(spill: BinaryIO, entry: _Entry, dtype: torch.dtype) -> LowRank:
    d_out, d_in = entry.shape
    spill.seek(entry.offset)

    def read(rows: int, columns: int) -> Tensor:
        if rows * columns == 0:
            return torch.zeros(rows, columns, dtype=dtype)
        block = bytearray(spill.read(rows * columns * dtype.itemsize))
        return torch.frombuffer(block, dtype=dtype).reshape(rows, columns)

    a = read(entry.rank, d_in)
    return LowRank(read(d_out, entry.rank), a)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
