"""Reading a PEFT LoRA adapter one module at a time."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from prefdelta.adapters.config import CONFIG_NAME, PLAIN, AdapterInfo, LayerSettings, read_config
from prefdelta.adapters.names import PREFIX, sort_names
from prefdelta.adapters.sources import open_source, weights_file
from prefdelta.adapters.storage import Storage, layer_path, split_name
from prefdelta.adapters.targeting import refuse_two_namings
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import check_as_written
from prefdelta.linalg.lowrank import LowRank

_COPY = ".base_layer.weight"


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
        base_copies: names of the base's weights that PEFT stores beside an adapted embedding, and loads over the base's
            own: safe to ignore only where they are equal to these, which a resized table is not.
    """

    path: Path
    config: dict[str, Any]
    modules: tuple[str, ...]
    extra: tuple[str, ...]
    base_copies: tuple[str, ...]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_config(path)
        self._settings = LayerSettings(self.config, path / CONFIG_NAME)
        self._file = weights_file(path)
        self._source = open_source(self._file)
        self._factors, others = sort_names(self._source.shapes, self._file)
        self._storage = {layer: stored for layer in self._factors if (stored := self._stored(layer)) != PLAIN}
        self._last_stack: tuple[str, Tensor, Tensor] | None = None
        self.modules = tuple(sorted(name for layer in self._factors for name in self._stored_as(layer).modules(layer)))
        copies = {name for layer in self._factors if self._source.shapes.get(name := f"{PREFIX}{layer}{_COPY}")}
        self.base_copies = tuple(name for name in others if name in copies)
        self.extra = tuple(name for name in others if name not in copies)
        if not self.modules:
            raise PrefdeltaError(f"{self._file} holds no LoRA factors under PEFT's names ({PREFIX}…lora_A.weight).")
        refuse_two_namings(dict.fromkeys(self._factors, str(self._file)))
        for layer in self._factors:
            self._check_layer(layer)

    @classmethod
    def open(cls, path: Path | str) -> Adapter:
        """Open an adapter folder.

        Raises:
            PrefdeltaError: the folder is no PEFT LoRA adapter, is damaged, or uses a variant of LoRA whose update is
                not B A; or prefdelta made it and it was changed since; the message names the file or module.
        """
        adapter = cls(Path(path))
        for file in (adapter.path / CONFIG_NAME, *adapter._source.files):
            check_as_written(file)
        return adapter

    def __contains__(self, module: str) -> bool:
        """Whether the adapter adapts a module."""
        layer, number = split_name(module)
        return layer in self._factors and number < self._stored_as(module).experts

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
        return self._settings.scaling(split_name(module)[0])

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

    def tensors(self) -> dict[str, Tensor]:
        """All stored tensors under PEFT's names, in the stored type."""
        return {name: self._source.tensor(name) for name in self._source.shapes}

    def load_extra(self) -> dict[str, Tensor]:
        """The tensors named in ``extra``, under their names in the base model, in the stored type.

        Raises:
            PrefdeltaError: one is not stored as a floating-point number.
        """
        for name in self.extra:
            self._check_type(name)
        return {name.removeprefix(PREFIX): self._source.tensor(name).clone() for name in self.extra}

    def stored_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor of ``extra`` or ``base_copies``."""
        return self._source.shapes[name]

    def base_copy(self, name: str, first: int = 0, count: int | None = None) -> Tensor:
        """Rows of a tensor of ``base_copies``, ``count`` from row ``first`` on, or all.

        Raises:
            PrefdeltaError: it is not stored as a floating-point number.
        """
        self._check_type(name)
        return self._source.rows(name, first, self._source.shapes[name][0] if count is None else count)

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
        untargeted = self._settings.targets.refusal(module, stored)
        if untargeted:
            raise PrefdeltaError(
                f"{self._file} holds factors of module {module}, but by {CONFIG_NAME} PEFT does not load them "
                f"({untargeted}); correct the configuration, or remove the factors from the file."
            )
        rank = self._settings.rank(module)
        if stored.module_rank(a) != rank:
            raise PrefdeltaError(
                f"{self._file}: module {module} is stored with rank {a[0]}, but {CONFIG_NAME} gives it rank {rank}, "
                "so its scaling is unknown; correct r or rank_pattern."
            )
        for name in names:
            self._check_type(name)

    def _check_type(self, name: str) -> None:
        if self._source.dtypes[name] is None:
            raise PrefdeltaError(f"{self._file}: tensor {name} is not stored as float64, 32, 16 or bfloat16.")


def magnitude(tensor: Tensor) -> float:
    """The largest absolute value, NaN if there is one: tells finite tensors, far quicker than ``isfinite``."""
    if not tensor.numel():
        return 0.0
    low, high = (float(value) for value in tensor.aminmax())
    return max(-low, high) if not math.isnan(low) else math.nan
