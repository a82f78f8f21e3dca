"""Reading a PEFT LoRA adapter one module at a time."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import struct
import weakref
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prefdelta.adapter.config import CONFIG_NAME, AdapterInfo, configured_rank, read_config, scaling
from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank

PREFIX = "base_model.model."
SAFETENSORS_NAME = "adapter_model.safetensors"
PICKLE_NAME = "adapter_model.bin"

_FACTOR = re.compile(r"(?P<module>.+)\.(?P<factor>lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B)")
_MODULE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
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
_LFS_MAGIC = b"version https://git-lfs"


class _Source(Protocol):
    """Named tensors on disk: shapes at once, values on demand."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def dtypes(self) -> Mapping[str, torch.dtype | None]: ...

    def tensor(self, name: str) -> Tensor: ...


class Adapter:
    """A LoRA adapter saved by PEFT. Opening checks the structure and reads no weights; ``load`` reads one module.

    Module names are those of the base model (PEFT's ``base_model.model.`` prefix is left out), sorted.

    ΔW is B A in PEFT's own orientation: ``(out, in)`` for linear layers and also for ``fan_in_fan_out`` ones
    (GPT-2's Conv1D), whose weight is its transpose; ``(embedding dim, vocabulary)`` for embeddings, likewise.

    Attributes:
        path: the folder.
        config: ``adapter_config.json`` as a dictionary.
        modules: the adapted modules.
        extra: names of other tensors in the file: fully trained modules (``modules_to_save``, heads, biases).
        base_copies: names of unchanged base weights that PEFT stores beside an adapted embedding; safe to ignore.
    """

    path: Path
    config: dict[str, Any]
    modules: tuple[str, ...]
    extra: tuple[str, ...]
    base_copies: tuple[str, ...]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_config(path)
        self._file = _weights_file(path)
        self._source: _Source = (
            _SafetensorsSource(self._file) if self._file.suffix != ".bin" else _PickleSource(self._file)
        )
        self._factors, others = self._sort_tensors()
        self.modules = tuple(sorted(self._factors))
        self.base_copies = tuple(name for name in others if name.endswith(".base_layer.weight"))
        self.extra = tuple(name for name in others if not name.endswith(".base_layer.weight"))
        if not self.modules:
            raise PrefdeltaError(f"{self._file} holds no LoRA factors under PEFT's names ({PREFIX}…lora_A.weight).")
        for module in self.modules:
            self._check_module(module)

    @classmethod
    def open(cls, path: Path | str) -> Adapter:
        """Open an adapter folder.

        Raises:
            PrefdeltaError: the folder is no PEFT LoRA adapter, is damaged, or uses a variant of LoRA whose update is
                not B A; the message names the file or module.
        """
        return cls(Path(path))

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def base_model(self) -> str | None:
        """The base model's name as the configuration gives it."""
        return self.config.get("base_model_name_or_path") or None

    @property
    def info(self) -> AdapterInfo:
        """What a merge carries over from this adapter."""
        return AdapterInfo(
            base_model=self.base_model,
            task_type=self.config.get("task_type") or None,
            fan_in_fan_out=bool(self.config.get("fan_in_fan_out")),
            embeddings=frozenset(name for name, (a, _) in self._factors.items() if a.endswith("lora_embedding_A")),
        )

    @cached_property
    def dtype(self) -> torch.dtype:
        """The widest type among the stored factors; float32 where half types are mixed."""
        kinds = {self._source.dtypes[name] for pair in self._factors.values() for name in pair}
        widest: torch.dtype = torch.float32
        for index, kind in enumerate(sorted((kind for kind in kinds if kind is not None), key=str)):
            widest = kind if index == 0 else torch.promote_types(widest, kind)
        return widest

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the configuration file followed by the weights file."""
        total = hashlib.sha256()
        for path in (self.path / CONFIG_NAME, self._file):
            with path.open("rb") as handle:
                while block := handle.read(1 << 20):
                    total.update(block)
        return total.hexdigest()

    def shape(self, module: str) -> tuple[int, int]:
        """``(d_out, d_in)`` of a module's ΔW."""
        a, b = self._names(module)
        return self._source.shapes[b][0], self._source.shapes[a][1]

    def rank(self, module: str) -> int:
        """The rank a module is stored with."""
        return self._source.shapes[self._names(module)[0]][0]

    def scaling(self, module: str) -> float:
        """The factor s in ΔW = s · B A."""
        return scaling(self.config, module)

    def load(self, module: str, dtype: torch.dtype = torch.float32) -> LowRank:
        """Read a module's update, with the scaling folded into B, on the CPU.

        Raises:
            PrefdeltaError: the module is not in this adapter, or a factor holds NaN or infinity.
        """
        a, b = (self._source.tensor(name) for name in self._names(module))
        scale = self.scaling(module)
        for name, factor, times in (("A", a, 1.0), ("B", b, scale)):
            largest = magnitude(factor)
            if not math.isfinite(largest):
                raise PrefdeltaError(f"{self._file}: factor {name} of module {module} holds NaN or infinity.")
            if not largest * max(abs(times), 1.0) <= torch.finfo(dtype).max:
                raise PrefdeltaError(f"{self._file}: module {module} with its scaling is too large for {dtype}.")
        # The scaling multiplies in the wider of the two types: bf16 factors would round it a second time.
        return LowRank(b.to(dtype, copy=True).mul_(scale), a.to(dtype, copy=True))

    def _names(self, module: str) -> tuple[str, str]:
        try:
            return self._factors[module]
        except KeyError:
            raise PrefdeltaError(f"{self.path} does not adapt module {module}.") from None

    def _sort_tensors(self) -> tuple[dict[str, tuple[str, str]], list[str]]:
        found: dict[str, dict[str, str]] = {}
        others: list[str] = []
        for name in sorted(self._source.shapes):
            match = _FACTOR.fullmatch(name)
            if match is None or not name.startswith(PREFIX):
                if ".lora_" in name:
                    raise PrefdeltaError(
                        f"{self._file}: tensor {name} is no factor of a plain LoRA saved by PEFT "
                        "(a variant of LoRA, or a file another tool wrote); it cannot be merged."
                    )
                others.append(name)
                continue
            module = match["module"].removeprefix(PREFIX)
            if not _MODULE.fullmatch(module):
                raise PrefdeltaError(f"{self._file}: {module!r} is no module name.")
            found.setdefault(module, {})[match["factor"].removesuffix(".weight")] = name
        return {module: self._pair(module, factors) for module, factors in found.items()}, others

    def _pair(self, module: str, factors: Mapping[str, str]) -> tuple[str, str]:
        for a, b in (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")):
            if set(factors) == {a, b}:
                return factors[a], factors[b]
        raise PrefdeltaError(
            f"{self._file}: module {module} has {' and '.join(sorted(factors))} only; "
            "a LoRA needs both factors, so the file is incomplete."
        )

    def _check_module(self, module: str) -> None:
        names = self._factors[module]
        a, b = (self._source.shapes[name] for name in names)
        if len(a) > 2 or len(b) > 2:
            raise PrefdeltaError(f"{self._file}: module {module} is a convolution; only 2-D factors can be merged.")
        if len(a) != 2 or len(b) != 2 or 0 in a or 0 in b:
            raise PrefdeltaError(
                f"{self._file}: module {module} has factors of shape {a} and {b}; they look like shards that were "
                "saved without being gathered (DeepSpeed ZeRO-3 or FSDP); save the adapter again."
            )
        if a[0] != b[1]:
            raise PrefdeltaError(f"{self._file}: module {module} has A {a} and B {b}, whose ranks differ.")
        rank = configured_rank(self.config, module)
        if a[0] != rank:
            raise PrefdeltaError(
                f"{self._file}: module {module} is stored with rank {a[0]}, but {CONFIG_NAME} gives it rank {rank}, "
                "so its scaling is unknown; correct r or rank_pattern."
            )
        for name in names:
            if self._source.dtypes[name] is None:
                raise PrefdeltaError(f"{self._file}: tensor {name} is not stored as float64, 32, 16 or bfloat16.")


def magnitude(tensor: Tensor) -> float:
    """The largest absolute value, NaN if there is one: tells finite tensors, far quicker than ``isfinite``."""
    if not tensor.numel():
        return 0.0
    low, high = (float(value) for value in tensor.aminmax())
    return max(-low, high) if not math.isnan(low) else math.nan


def _weights_file(folder: Path) -> Path:
    for name in (SAFETENSORS_NAME, PICKLE_NAME):
        path = folder / name
        if path.is_file():
            _refuse_lfs_pointer(path)
            return path
    if any(folder.glob("adapter_model*.index.json")):
        raise PrefdeltaError(f"{folder} holds a sharded adapter; load it in PEFT and save it as one file.")
    raise PrefdeltaError(f"{folder} has neither {SAFETENSORS_NAME} nor {PICKLE_NAME}.")


def _refuse_lfs_pointer(path: Path) -> None:
    try:
        with path.open("rb") as handle:
            start = handle.read(len(_LFS_MAGIC))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    if start == _LFS_MAGIC:
        raise PrefdeltaError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` where it came from.")


class _SafetensorsSource:
    """A safetensors file, whose tensors are read one by one.

    The library's own reader maps the file into memory, where every page that was ever touched counts as the process's.
    """

    def __init__(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt", device="cpu") as checked:
                slices = {name: checked.get_slice(name) for name in checked.keys()}  # noqa: SIM118
                self.shapes = {name: tuple(piece.get_shape()) for name, piece in slices.items()}
                self.dtypes = {name: _FLOATS.get(str(piece.get_dtype())) for name, piece in slices.items()}
            # Reads at an offset share no position, so that threads can read at once.
            self._descriptor = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)
            (length,) = struct.unpack("<Q", os.pread(self._descriptor, 8, 0))
            header = json.loads(os.pread(self._descriptor, length, 8))
        except (SafetensorError, OSError, ValueError, struct.error) as error:
            raise PrefdeltaError(f"{path} is damaged or incomplete ({error}); download or save it again.") from error
        self._path = path
        self._start = {name: 8 + length + header[name]["data_offsets"][0] for name in self.shapes}

    def tensor(self, name: str) -> Tensor:
        dtype = self.dtypes[name]
        assert dtype is not None, "opening an adapter has checked the types of its factors"
        tensor = torch.empty(self.shapes[name], dtype=dtype)
        into = tensor.view(torch.uint8).reshape(-1).numpy().data
        done = 0
        while done < len(into):
            try:
                got = os.preadv(self._descriptor, [into[done:]], self._start[name] + done)
            except OSError as error:
                raise PrefdeltaError(f"cannot read {self._path}: {error.strerror}.") from error
            if not got:
                raise PrefdeltaError(f"{self._path} has become shorter since it was opened.")
            done += got
        return tensor


class _PickleSource:
    """A ``.bin`` file, read with PyTorch's restricted unpickler, memory-mapped where its format allows."""

    def __init__(self, path: Path) -> None:
        self._tensors = _unpickle(path)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        floats = set(_FLOATS.values())
        self.dtypes = {name: tensor.dtype if tensor.dtype in floats else None for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name].detach()


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
