"""A model's safetensors shards, read and written a block of rows at a time.

Memory-mapped reading would count a whole shard as resident; plain reads keep memory at one block whatever the shard.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.regular import regular

CONFIG_NAME = "config.json"
SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
BLOCK_ENTRIES = 1 << 20
"""Entries of a weight that are in memory at once: 8 MiB in float64."""

_LFS_MAGIC = b"version https://git-lfs"
_SHARD = re.compile(r"-\d+-of-\d+\.(?:safetensors|bin)$")
_BLOCK_BYTES = 1 << 24
MOST_LABELS = 100_000
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
_WIDTHS = ("hidden_size", "n_embd", "d_model", "n_embed", "vocab_size")


class Stored(NamedTuple):
    """Where one tensor lies: its shard, type and shape as the header names them, and its bytes in the file."""

    shard: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Output:
    """One tensor to write: its name, type and shape, and its bytes in order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    blocks: Iterable[bytes | memoryview]


class Checkpoint:
    """The weights of a model folder: ``model.safetensors``, or the shards that its index names.

    Attributes:
        folder: the model folder.
        shards: the shard files in the order of their names.
        tensors: every tensor by name, shard by shard in the order of its bytes.

    Raises:
        PrefdeltaError: there are no safetensors weights, the index is bad, or a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.indexed = (folder / INDEX_NAME).is_file()
        places = _index(folder / INDEX_NAME) if self.indexed else {}
        self.shards = tuple(sorted(set(places.values()))) if self.indexed else _single_shard(folder)
        self.metadata: dict[str, Mapping[str, str]] = {}
        self.tensors: dict[str, Stored] = {}
        for shard in self.shards:
            self._read_header(shard)
        for name, shard in places.items():
            if name not in self.tensors or self.tensors[name].shard != shard:
                raise PrefdeltaError(f"{folder / INDEX_NAME} says that {name} is in {shard}, which does not hold it.")

    def _read_header(self, shard: str) -> None:
        path = self.folder / shard
        try:
            with safe_open(regular(path), framework="pt") as checked:  # validates sizes, offsets and types
                self.metadata[shard] = checked.metadata() or {}
            with path.open("rb") as handle:
                length = struct.unpack("<Q", handle.read(8))[0]
                header = json.loads(handle.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise PrefdeltaError(f"{path} is missing or damaged ({error}); download or save it again.") from error
        header.pop("__metadata__", None)
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            if name in self.tensors:
                raise PrefdeltaError(f"{self.folder}: tensor {name} is in {self.tensors[name].shard} and in {shard}.")
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            self.tensors[name] = Stored(shard, entry["dtype"], tuple(entry["shape"]), start, end)

    def raw(self, name: str) -> Iterator[bytes]:
        """A tensor's bytes as they are stored."""
        entry = self.tensors[name]
        with (self.folder / entry.shard).open("rb") as handle:
            handle.seek(entry.start)
            left = entry.end - entry.start
            while left:
                block = handle.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise PrefdeltaError(f"{self.folder / entry.shard} ended early; it changed while it was read.")
                left -= len(block)
                yield block

    def rows(self, name: str) -> Iterator[tuple[int, Tensor]]:
        """A floating-point tensor in blocks of its first dimension: the block's first row, and the rows."""
        entry = self.tensors[name]
        shape = entry.shape or (1,)
        width = math.prod(shape[1:])
        dtype = FLOATS[entry.dtype]
        step = max(1, BLOCK_ENTRIES // max(width, 1))
        with (self.folder / entry.shard).open("rb") as handle:
            handle.seek(entry.start)
            for first in range(0, shape[0], step):
                count = min(step, shape[0] - first)
                block = bytearray(handle.read(count * width * dtype.itemsize))
                yield first, torch.frombuffer(block, dtype=dtype).reshape(count, *shape[1:])


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Refuse a model folder whose files are missing, damaged or only pointers, before anything is loaded; returns its
    configuration.

    Raises:
        PrefdeltaError: it is no folder or empty, a file is a Git LFS pointer, the configuration is no JSON object,
            there are no weights, a shard of them is missing or damaged or not where the index says, or the
            configuration is of a far larger model.
    """
    if not folder.is_dir():
        raise PrefdeltaError(f"{folder} is no folder; give the folder of a model.")
    files = {path.name: path for path in map(regular, sorted(folder.iterdir())) if path.is_file()}
    if not files:
        raise PrefdeltaError(f"{folder} holds no files; download the model again.")
    for path in files.values():
        with path.open("rb") as handle:
            if handle.read(len(_LFS_MAGIC)) == _LFS_MAGIC:
                raise PrefdeltaError(
                    f"{path} is a Git LFS pointer, not the file; run `git lfs pull` where it came from."
                )
    check_labels(folder)
    config = folder / CONFIG_NAME
    if CONFIG_NAME not in files:
        raise PrefdeltaError(f"{folder} has no {CONFIG_NAME}; it is no model that transformers saved.")
    try:
        parsed = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PrefdeltaError(f"{config} is no valid JSON ({error}); download or save it again.") from error
    if not isinstance(parsed, dict):
        raise PrefdeltaError(f"{config} holds no JSON object.")
    if INDEX_NAME in files or SINGLE_NAME in files:
        _check_size(config, parsed, Checkpoint(folder))
    elif not any(path.suffix in (".bin", ".safetensors") for path in files.values()):
        raise PrefdeltaError(f"{folder} holds no weights ({SINGLE_NAME}, or {INDEX_NAME} and its shards).")
    elif any(_SHARD.search(name) for name in files) and not any(name.endswith(".index.json") for name in files):
        raise PrefdeltaError(f"{folder} holds shards of weights but no {INDEX_NAME}; download the model again.")
    return parsed


def check_labels(folder: Path) -> None:
    """Refuse a configuration of more labels than any classifier has: transformers writes a name for each, even where
    only the tokenizer is wanted.

    Raises:
        PrefdeltaError: so it is.
    """
    path = folder / CONFIG_NAME
    try:
        waiting = [json.loads(path.read_bytes())]
    except (OSError, ValueError, RecursionError):
        return  # told where it is loaded
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            labels = part.get("num_labels")
            if isinstance(labels, int | float) and labels > MOST_LABELS:
                raise PrefdeltaError(f"{path} says num_labels {labels}; at most {MOST_LABELS:,} make sense.")
            waiting += part.values()


def _check_size(path: Path, config: Mapping[str, Any], weights: Checkpoint) -> None:
    """Refuse a configuration of more layers, or wider ones, than the weights can fill: building it may never end."""
    dimensions = [size for stored in weights.tensors.values() for size in stored.shape]
    limits = {
        **dict.fromkeys(_LAYERS, (len(weights.tensors), "the files hold {} tensors")),
        **dict.fromkeys(_WIDTHS, (max(dimensions, default=0), "no tensor of the files is wider than {}")),
    }
    for key, (most, reason) in limits.items():
        asked = config.get(key)
        if isinstance(asked, int) and asked > most:
            raise PrefdeltaError(
                f"{path} says {key} {asked}, but {reason.format(most)}; it does not belong to these weights."
            )


def write_shard(path: Path, outputs: Iterable[Output], metadata: Mapping[str, str]) -> None:
    """Write one safetensors file: 8 bytes of header length, the JSON header, then the tensors in its order."""
    listed = list(outputs)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for output in listed:
        header[output.name] = {
            "dtype": output.dtype,
            "shape": list(output.shape),
            "data_offsets": [offset, offset + output.size],
        }
        offset += output.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for output in listed:
            for block in output.blocks:
                out.write(block)


def write_index(path: Path, shards: Mapping[str, str], total_size: int) -> None:
    """Write the index of a sharded checkpoint: the shard of every tensor."""
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(shards.items()))}
    path.write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _single_shard(folder: Path) -> tuple[str, ...]:
    if (folder / SINGLE_NAME).is_file():
        return (SINGLE_NAME,)
    raise PrefdeltaError(
        f"{folder} has neither {SINGLE_NAME} nor {INDEX_NAME}; load the model in transformers and save it again."
    )


def _index(path: Path) -> dict[str, str]:
    """Which shard each tensor is in."""
    try:
        places = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise PrefdeltaError(f"{path} is no index of safetensors shards ({error}).") from error
    for shard in places.values():
        # The index may come from a stranger: a shard is a file of this folder and nothing else.
        if not isinstance(shard, str) or PurePath(shard).name != shard or not shard.endswith(".safetensors"):
            raise PrefdeltaError(f"{path}: {shard!r} is no name of a shard.")
    if not places:
        raise PrefdeltaError(f"{path} names no shards.")
    return places
