"""The files that hold an adapter's tensors: shapes at once, values on demand, nothing run that a file contains."""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
import weakref
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prefdelta.adapters.patterns import shown
from prefdelta.core.checkpoint import FLOATS
from prefdelta.core.errors import PrefdeltaError

SAFETENSORS_NAME = "adapter_model.safetensors"
INDEX_NAME = "adapter_model.safetensors.index.json"
PICKLE_NAME = "adapter_model.bin"

# What PyTorch's reader lets through from a damaged file.
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_LARGEST_HEADER = 32 << 20  # bytes; 100,000 tensors take about 20 of its millions
_LFS_MAGIC = b"version https://git-lfs"


def weights_file(folder: Path) -> Path:
    """The file of an adapter folder that its weights are read from: one file, or the index of several.

    Raises:
        PrefdeltaError: there is none, or only a pointer to it.
    """
    for name in (SAFETENSORS_NAME, INDEX_NAME, PICKLE_NAME):
        path = folder / name
        if path.is_file():
            _refuse_lfs_pointer(path)
            return path
    raise PrefdeltaError(f"{folder} has neither {SAFETENSORS_NAME} nor {PICKLE_NAME}.")


def _refuse_lfs_pointer(path: Path) -> None:
    try:
        with path.open("rb") as handle:
            start = handle.read(len(_LFS_MAGIC))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    if start == _LFS_MAGIC:
        raise PrefdeltaError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` where it came from.")


def open_source(file: Path) -> Source:
    """The tensors of a weights file, or of the shards of an index.

    Raises:
        PrefdeltaError: a file is damaged, missing or holds more than tensors.
    """
    if file.name == INDEX_NAME:
        return _ShardedSource(file)
    return _PickleSource(file) if file.suffix == ".bin" else _SafetensorsSource(file)


def _check_header(path: Path) -> None:
    """Refuse a header of needless size before anything is read: its names come from strangers."""
    try:
        with path.open("rb") as handle:
            start = handle.read(8)
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    if len(start) == 8 and _LARGEST_HEADER < struct.unpack("<Q", start)[0] <= path.stat().st_size:
        raise PrefdeltaError(f"{path} has a header of more than {_LARGEST_HEADER >> 20} MiB, which no adapter needs.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers disagree about which of two equal names counts."""
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("two tensors or keys of its header have one name")
    return names


class _SafetensorsSource:
    """A safetensors file, whose tensors are read one by one, whole or some rows.

    The library's own reader maps the file into memory, where every page that was ever touched counts as the process's.

    Attributes:
        files: the files that are read.
        shapes: the shape of every tensor.
        dtypes: its type, ``None`` where it is no floating-point type that factors may have.
    """

    def __init__(self, path: Path) -> None:
        _check_header(path)
        try:
            with safe_open(path, framework="pt", device="cpu") as checked:
                slices = {name: checked.get_slice(name) for name in checked.keys()}  # noqa: SIM118
                self.shapes = {name: tuple(piece.get_shape()) for name, piece in slices.items()}
                self.dtypes = {name: FLOATS.get(str(piece.get_dtype())) for name, piece in slices.items()}
            # Reads at an offset share no position, so that threads can read at once.
            self._descriptor = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)
            (length,) = struct.unpack("<Q", os.pread(self._descriptor, 8, 0))
            header = json.loads(os.pread(self._descriptor, length, 8), object_pairs_hook=_unique)
        except (SafetensorError, OSError, ValueError, struct.error) as error:
            raise PrefdeltaError(f"{path} is damaged or incomplete ({error}); download or save it again.") from error
        self.files: tuple[Path, ...] = (path,)
        self._path = path
        self._start = {name: 8 + length + header[name]["data_offsets"][0] for name in self.shapes}

    def tensor(self, name: str) -> Tensor:
        return self._read(name, self.shapes[name], 0)

    def rows(self, name: str, first: int, count: int) -> Tensor:
        height, *width = self.shapes[name]
        return self._read(name, (min(count, height - first), *width), first * math.prod(width))

    def _read(self, name: str, shape: tuple[int, ...], skipped: int) -> Tensor:
        dtype = self.dtypes[name]
        assert dtype is not None, "opening an adapter has checked the types of its factors"
        tensor = torch.empty(shape, dtype=dtype)
        start = self._start[name] + skipped * dtype.itemsize
        into = tensor.view(torch.uint8).reshape(-1).numpy().data
        done = 0
        while done < len(into):
            try:
                got = os.preadv(self._descriptor, [into[done:]], start + done)
            except OSError as error:
                raise PrefdeltaError(f"cannot read {self._path}: {error.strerror}.") from error
            if not got:
                raise PrefdeltaError(f"{self._path} has become shorter since it was opened.")
            done += got
        return tensor


class _ShardedSource:
    """Several safetensors files and the index that says which tensor is where."""

    def __init__(self, index: Path) -> None:
        try:
            if index.stat().st_size > _LARGEST_HEADER:
                raise PrefdeltaError(f"{index} is larger than {_LARGEST_HEADER >> 20} MiB, which no adapter needs.")
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(places.values()))
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise PrefdeltaError(
                f"{index} is no index of sharded weights ({error}); save the adapter again."
            ) from error
        for name in names:
            if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name:
                raise PrefdeltaError(f"{index} names {shown(name)}, which is no name of a shard beside it.")
        self._shards: dict[str, _SafetensorsSource] = {}
        for name in names:
            if not (index.parent / name).is_file():
                raise PrefdeltaError(f"{index} names {name}, which is not there; the download is incomplete.")
            _refuse_lfs_pointer(index.parent / name)
            self._shards[name] = _SafetensorsSource(index.parent / name)
        held = {tensor: name for name, shard in self._shards.items() for tensor in shard.shapes}
        if held != places:
            odd = min(held.items() ^ places.items())[0]
            raise PrefdeltaError(
                f"{index} and its shards disagree about where tensor {odd} is; save the adapter again."
            )
        self._places = held
        self.files: tuple[Path, ...] = (index, *(index.parent / name for name in names))
        self.shapes = {tensor: self._shards[name].shapes[tensor] for tensor, name in held.items()}
        self.dtypes = {tensor: self._shards[name].dtypes[tensor] for tensor, name in held.items()}

    def tensor(self, name: str) -> Tensor:
        return self._shards[self._places[name]].tensor(name)

    def rows(self, name: str, first: int, count: int) -> Tensor:
        return self._shards[self._places[name]].rows(name, first, count)


class _PickleSource:
    """A ``.bin`` file, read with PyTorch's restricted unpickler, memory-mapped where its format allows."""

    def __init__(self, path: Path) -> None:
        self.files: tuple[Path, ...] = (path,)
        self._tensors = _unpickle(path)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        floats = set(FLOATS.values())
        self.dtypes = {name: tensor.dtype if tensor.dtype in floats else None for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name].detach()

    def rows(self, name: str, first: int, count: int) -> Tensor:
        return self.tensor(name)[first : first + count]


Source = _SafetensorsSource | _ShardedSource | _PickleSource
"""Named tensors on disk: shapes at once, values on demand."""


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except _UNPICKLING_ERRORS as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PrefdeltaError(f"{path} is damaged or holds more than tensors ({first}); save it again.") from error
    if not isinstance(loaded, dict) or not all(_is_stored(value) for value in loaded.values()):
        raise PrefdeltaError(f"{path} holds no dictionary of tensors; save the adapter again as safetensors.")
    return {str(name): value for name, value in loaded.items()}


def _is_stored(value: Any) -> bool:
    """Whether a value is a tensor whose every entry is in the file: strides can make a terabyte of one number."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
