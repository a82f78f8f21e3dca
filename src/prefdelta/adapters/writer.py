"""Writing a PEFT LoRA adapter module by module, so that memory stays at one module whatever the adapter's size."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from prefdelta.adapters.config import CONFIG_NAME, AdapterInfo, merged_config
from prefdelta.adapters.names import PREFIX
from prefdelta.adapters.patterns import Matcher, Patterns
from prefdelta.adapters.reader import Adapter, magnitude
from prefdelta.adapters.sources import SAFETENSORS_NAME
from prefdelta.adapters.storage import split_name
from prefdelta.adapters.writebehind import WriteBehind
from prefdelta.core.checkpoint import FLOATS
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.outputs import staged_folder
from prefdelta.linalg.lowrank import LowRank

SERVABLE_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of ``--max-lora-rank`` that vLLM accepts."""

DTYPE_NAMES = {dtype: name for name, dtype in FLOATS.items()}
"""What safetensors calls the types that factors are stored in."""

_NO_EXPRESSIONS = Matcher(Path(CONFIG_NAME))  # module names alone take none
_LARGEST = 2**63  # no number in a header is written longer

Rank = int | Literal["servable"] | None


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
    rank: Rank = None,
    names: Collection[str] | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write an adapter folder that PEFT loads, whole or not at all; returns the rank each module is stored with.

    Equal updates give equal bytes. All scaling is in the factors (alpha = r).

    Args:
        folder: the new folder.
        modules: module names with their updates.
        like: the base model and task the adapter belongs to.
        dtype: the type the factors are stored in.
        rank: pad every module with zeros to this rank, or to the least rank vLLM serves; ``None`` keeps each as is.
        names: the sorted names that ``modules`` come with, so that no more than one need ever be in memory; without
            them all are collected first.
        overwrite: replace a folder that is there already.

    Raises:
        PrefdeltaError: the folder is not empty, the disk is full, a module comes twice or has a larger rank than
            ``rank``, there are no modules, or a value does not fit ``dtype``.
    """
    with staged_folder(folder, overwrite=overwrite) as staging:
        return write_files(staging, modules, like=like, dtype=dtype, rank=rank, names=names)


def write_files(
    folder: Path,
    modules: Iterable[tuple[str, LowRank]],
    *,
    like: AdapterInfo,
    dtype: torch.dtype = torch.float32,
    rank: Rank = None,
    names: Collection[str] | None = None,
    copies: Mapping[str, Adapter] = MappingProxyType({}),
) -> dict[str, int]:
    """Write the two files of :func:`write_adapter` into an existing folder, with no care for atomicity.

    ``copies`` names tables of the base model that are stored too, each with an adapter to copy it from.
    """
    if dtype not in DTYPE_NAMES:
        raise PrefdeltaError(f"adapters are stored as float64, float32, bfloat16 or float16, not {dtype}.")
    if names is None:
        modules = sorted(modules, key=lambda named: named[0])
        names = [module for module, _ in modules]
    if not names:
        raise PrefdeltaError("there are no modules to write.")
    path = folder / SAFETENSORS_NAME
    ranks = _write(path, modules, names, like, dtype, lambda module, own: _own_rank(module, own, rank), copies)
    final = common_ranks(ranks, like, rank)
    if final != ranks:
        # Which rank holds them all is known only now.
        narrow = path.rename(folder / ".narrow")
        _write(path, _read_back(narrow, names, like), names, like, dtype, lambda module, own: final[module], copies)
        narrow.unlink()
    text = json.dumps(merged_config(like, final), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    return final


def common_ranks(ranks: Mapping[str, int], info: AdapterInfo, rank: Rank = None) -> dict[str, int]:
    """The ranks that modules of these ranks are stored with, where some must be those of others.

    One servable rank holds all modules, and PEFT finds the experts of a stack by dividing by the adapter's one rank.
    Where one name is the tail of another (``q`` and ``a.q``), a ``rank_pattern`` for the one also catches the other.
    """
    widest = max(ranks.values())
    padded = [module for module in ranks if rank == "servable" or info.stored(split_name(module)[0]).experts > 1]
    common = {**ranks, **dict.fromkeys(padded, widest)}
    names = Patterns({module: module for module in common if common[module] < widest}, "rank_pattern", _NO_EXPRESSIONS)
    caught = [(module, name) for module in common for name in names.all(module) if name != module]
    while odd := [pair for pair in caught if common[pair[0]] != common[pair[1]]]:
        for pair in odd:
            common |= dict.fromkeys(pair, max(common[module] for module in pair))
    return common


def _own_rank(module: str, own: int, rank: Rank) -> int:
    own = max(own, 1)  # PEFT refuses rank 0: a zero update is stored as one zero column
    if rank is None or rank == "servable":
        return own if rank is None else servable_rank(own)
    if own > rank:
        raise PrefdeltaError(f"module {module} has rank {own}, more than the asked rank {rank}.")
    return rank


def _write(
    path: Path,
    modules: Iterable[tuple[str, LowRank]],
    names: Collection[str],
    like: AdapterInfo,
    dtype: torch.dtype,
    rank_of: Callable[[str, int], int],
    copies: Mapping[str, Adapter],
) -> dict[str, int]:
    """Write the safetensors file: 8 bytes of header length, the JSON header, the tensors in the header's order.

    The header tells every shape, and the last is known when the last module comes. It is written then, into room
    that was left for the longest it can be.
    """
    longest = {
        key: _entry(dtype, [_LARGEST] * len(shape), _LARGEST)
        for layer in dict.fromkeys(split_name(module)[0] for module in names)
        for key, shape in zip(_keys(layer, like), like.stored(layer).shapes(1, (1, 1)), strict=True)
    }
    tables = {name: adapter.base_copy(name) for name, adapter in copies.items()}
    longest |= {name: _entry(table.dtype, table.shape, _LARGEST) for name, table in tables.items()}
    room = len(_header(longest))
    header: dict[str, object] = {}
    ranks: dict[str, int] = {}
    offset = 0
    with WriteBehind(path) as out:
        out.seek(room)
        for layer, found in groupby(modules, key=lambda named: split_name(named[0])[0]):
            parts: dict[str, LowRank] = {}
            for module, delta in found:
                if module in ranks or module in parts:
                    raise PrefdeltaError(f"module {module} comes twice.")
                parts[module] = delta.to(dtype)
            widest = max(rank_of(module, part.rank) for module, part in parts.items())
            ranks |= dict.fromkeys(parts, widest)
            stored = like.stored(layer)
            padded = [parts[module].padded(widest) for module in stored.modules(layer)]
            for key, factor in zip(_keys(layer, like), stored.packed(padded), strict=True):
                if not math.isfinite(magnitude(factor)):
                    raise PrefdeltaError(f"module {layer} has values that {dtype} cannot hold; choose a wider dtype.")
                header[key] = _entry(dtype, factor.shape, offset)
                offset += out.write(tensor_bytes(factor))
        for name, table in tables.items():
            header[name] = _entry(table.dtype, table.shape, offset)
            offset += out.write(tensor_bytes(table))
        if list(ranks) != list(names):
            raise ValueError("the modules are not those that were announced")
        out.seek(0)
        out.write(_header(header, room))
    return ranks


def _keys(layer: str, like: AdapterInfo) -> list[str]:
    return [f"{PREFIX}{layer}.{name}" for name in like.stored(layer).names]


def _entry(dtype: torch.dtype, shape: Sequence[int], offset: int) -> dict[str, object]:
    end = offset + math.prod(shape) * dtype.itemsize
    return {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}


def _header(entries: Mapping[str, object], size: int = 0) -> bytes:
    """The start of the file, filled up with spaces to ``size`` bytes, and so that tensors start aligned."""
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()
    text = text.ljust(max(size - 8, len(text) + -len(text) % 8))
    return struct.pack("<Q", len(text)) + text


def _read_back(path: Path, names: Collection[str], like: AdapterInfo) -> Iterator[tuple[str, LowRank]]:
    with safe_open(path, framework="pt", device="cpu") as file:
        for layer, modules in groupby(names, key=lambda module: split_name(module)[0]):
            a, b = (file.get_tensor(key) for key in _keys(layer, like))
            for module in modules:
                factors = like.stored(layer).unpacked(a, b, split_name(module)[1])
                yield module, LowRank(factors[1], factors[0])


def tensor_bytes(tensor: Tensor) -> memoryview:
    """A tensor's numbers in order, as a file holds them."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
