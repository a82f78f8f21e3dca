"""Reading a PEFT LoRA adapter one module at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from prefdelta.adapter.config import CONFIG_NAME, PLAIN, AdapterInfo, configured_rank, read_config, scaling
from prefdelta.adapter.sources import open_source, weights_file
from prefdelta.adapter.storage import Storage, layer_path, split_name
from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank

PREFIX = "base_model.model."

_FACTOR = re.compile(r"(?P<module>.+)\.(?P<factor>lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B)")
_MODULE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


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
        self._file = weights_file(path)
        self._source = open_source(self._file)
        self._factors, others = self._sort_tensors()
        self._storage = {layer: stored for layer in self._factors if (stored := self._stored(layer)) != PLAIN}
        self._last_stack: tuple[str, Tensor, Tensor] | None = None
        self.modules = tuple(sorted(name for layer in self._factors for name in self._stored_as(layer).modules(layer)))
        self.base_copies = tuple(name for name in others if name.endswith(".base_layer.weight"))
        self.extra = tuple(name for name in others if not name.endswith(".base_layer.weight"))
        if not self.modules:
            raise PrefdeltaError(f"{self._file} holds no LoRA factors under PEFT's names ({PREFIX}…lora_A.weight).")
        for layer in self._factors:
            self._check_layer(layer)

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
            storage=self._storage,
            target_parameters=tuple(sorted(self.config.get("target_parameters") or ())),
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
        """BLAKE3 (hex, 256 bits) of the configuration, followed by the weights file or the index and its shards."""
        total = blake3()
        buffer = bytearray(1 << 20)
        for path in (self.path / CONFIG_NAME, *self._source.files):
            with path.open("rb", buffering=0) as handle:
                while size := handle.readinto(buffer):
                    total.update(memoryview(buffer)[:size])
        return total.hexdigest()

    def shape(self, module: str) -> tuple[int, int]:
        """``(d_out, d_in)`` of a module's ΔW."""
        a, b = (self._source.shapes[name] for name in self._names(module))
        return self._stored_as(module).module_shape(a, b)

    def rank(self, module: str) -> int:
        """The rank a module is stored with."""
        return self._stored_as(module).module_rank(self._source.shapes[self._names(module)[0]])

    def scaling(self, module: str) -> float:
        """The factor s in ΔW = s · B A."""
        return scaling(self.config, split_name(module)[0])

    def load(self, module: str, dtype: torch.dtype = torch.float32) -> LowRank:
        """Read a module's update, with the scaling folded into B, on the CPU.

        Raises:
            PrefdeltaError: the module is not in this adapter, or a factor holds NaN or infinity.
        """
        update, scale = self.stored(module, dtype)
        # The scaling multiplies in the wider of the two types: bf16 factors would round it a second time.
        return LowRank(update.B.to(dtype, copy=True).mul_(scale), update.A.to(dtype, copy=True))

    def stored(self, module: str, dtype: torch.dtype = torch.float64) -> tuple[LowRank, float]:
        """Read a module's factors in the type they are stored in, and the scaling s: ΔW = s · B A.

        Raises:
            PrefdeltaError: the module is not in this adapter, or a factor holds NaN, infinity, or more than ``dtype``
                could hold with the scaling.
        """
        a, b = self._stored_as(module).unpacked(*self._tensors(module), split_name(module)[1])
        scale = self.scaling(module)
        for name, factor, times in (("A", a, 1.0), ("B", b, scale)):
            largest = magnitude(factor)
            if not math.isfinite(largest):
                raise PrefdeltaError(f"{self._file}: factor {name} of module {module} holds NaN or infinity.")
            if not largest * max(abs(times), 1.0) <= torch.finfo(dtype).max:
                raise PrefdeltaError(f"{self._file}: module {module} with its scaling is too large for {dtype}.")
        return LowRank(b, a), scale

    def load_extra(self) -> dict[str, Tensor]:
        """The tensors named in ``extra``, under their names in the base model, in the stored type.

        Raises:
            PrefdeltaError: one is not stored as a floating-point number.
        """
        for name in self.extra:
            if self._source.dtypes[name] is None:
                raise PrefdeltaError(f"{self._file}: tensor {name} is not stored as float64, 32, 16 or bfloat16.")
        return {name.removeprefix(PREFIX): self._source.tensor(name).clone() for name in self.extra}

    def _names(self, module: str) -> tuple[str, str]:
        try:
            return self._factors[split_name(module)[0]]
        except KeyError:
            raise PrefdeltaError(f"{self.path} does not adapt module {module}.") from None

    def _stored_as(self, module: str) -> Storage:
        return self._storage.get(split_name(module)[0], PLAIN)

    def _tensors(self, module: str) -> tuple[Tensor, Tensor]:
        """What is stored for a module's layer; the last stack is kept, since its experts come one after the other."""
        a, b = self._names(module)
        if self._stored_as(module).experts == 1:
            return self._source.tensor(a), self._source.tensor(b)
        last = self._last_stack
        if last is None or last[0] != a:
            last = self._last_stack = (a, self._source.tensor(a), self._source.tensor(b))
        return last[1], last[2]

    def _stored(self, layer: str) -> Storage:
        """How a layer is stored, as its names and shapes tell; :meth:`_check_layer` refuses what makes no sense."""
        a, b = self._factors[layer]
        shape = self._source.shapes[a]
        if a.endswith("lora_embedding_A"):
            return Storage(embedding=True)
        if len(shape) > 2 and all(size == 1 for size in self._source.shapes[b][2:]):
            return Storage(kernel=shape[1:])
        parents = {name.rpartition(".")[0] for name in self.config.get("target_parameters") or ()}
        rank = int(self.config["r"])
        path = layer_path(layer)
        # An ungathered shard has no rows; a stack has a whole number of ranks.
        stack = len(shape) == 2 and shape[0] > rank and shape[0] % rank == 0
        if stack and any(path == parent or path.endswith(f".{parent}") for parent in parents if parent):
            return Storage(experts=shape[0] // rank)
        return PLAIN

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

    def _check_layer(self, module: str) -> None:
        names = self._factors[module]
        a, b = (self._source.shapes[name] for name in names)
        stored = self._stored_as(module)
        if not stored.kernel and (len(a) > 2 or len(b) > 2):
            raise PrefdeltaError(f"{self._file}: module {module} has factors of shape {a} and {b}, which no layer has.")
        if stored.kernel and (len(b) != len(a) or 0 in a or 0 in b or b[1] != a[0]):
            raise PrefdeltaError(
                f"{self._file}: module {module} is a convolution with A {a} and B {b}, whose ranks differ (a grouped "
                "convolution has another update than B A); leave that module out."
            )
        if not stored.kernel and (len(a) != 2 or len(b) != 2 or 0 in a or 0 in b):
            raise PrefdeltaError(
                f"{self._file}: module {module} has factors of shape {a} and {b}; they look like shards that were "
                "saved without being gathered (DeepSpeed ZeRO-3 or FSDP); save the adapter again."
            )
        if a[0] != b[1]:
            raise PrefdeltaError(f"{self._file}: module {module} has A {a} and B {b}, whose ranks differ.")
        rank = configured_rank(self.config, module)
        if stored.module_rank(a) != rank:
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
