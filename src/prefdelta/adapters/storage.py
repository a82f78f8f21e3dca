"""How the factors of one layer lie in an adapter's file, which is not always as two matrices of their own.

The algebra knows modules, each with B ``(d_out, r)`` and A ``(r, d_in)``. PEFT stores

* a linear layer just so, and an embedding under other names;
* a convolution as A ``(r, in, *kernel)`` and B ``(out, r, 1, …)``: d_in = in · Π kernel;
* a stack of experts (``target_parameters``) as A ``(E r, in)``, expert after expert, and B ``(out, r E)``, the experts
  interleaved. Each expert is a module of its own here, called ``LAYER#NUMBER``, because each has an update of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdelta.linalg.lowrank import LowRank

_EXPERT = "#"


@dataclass(frozen=True)
class Storage:
    """The way one layer is stored: ``kernel`` is A's shape after the rank, ``experts`` the height of the stack."""

    embedding: bool = False
    kernel: tuple[int, ...] = ()
    experts: int = 1

    @property
    def kind(self) -> str:
        """What to call it in messages."""
        if self.embedding:
            return "an embedding"
        if self.kernel:
            return f"a convolution of kernel {'x'.join(map(str, self.kernel[1:]))} over {self.kernel[0]} channels"
        return "a linear layer" if self.experts == 1 else f"a stack of {self.experts} experts"

    @property
    def names(self) -> tuple[str, str]:
        """What follows the layer's name in the names of A and B."""
        return ("lora_embedding_A", "lora_embedding_B") if self.embedding else ("lora_A.weight", "lora_B.weight")

    def shapes(self, rank: int, shape: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The stored shapes of A and B for modules of ``shape`` (d_out, d_in) and of ``rank``."""
        d_out, d_in = shape
        if self.kernel:
            return (rank, *self.kernel), (d_out, rank, *(1 for _ in self.kernel[1:]))
        return (rank * self.experts, d_in), (d_out, rank * self.experts)

    def modules(self, layer: str) -> list[str]:
        """The modules that the layer stands for."""
        return [layer] if self.experts == 1 else [f"{layer}{_EXPERT}{number}" for number in range(self.experts)]

    def module_shape(self, a: Sequence[int], b: Sequence[int]) -> tuple[int, int]:
        """``(d_out, d_in)`` of a module, from the stored shapes."""
        return b[0], math.prod(a[1:])

    def module_rank(self, a: Sequence[int]) -> int:
        """The rank of a module, from the stored shape of A."""
        return a[0] // self.experts

    def unpacked(self, a: Tensor, b: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """A ``(r, d_in)`` and B ``(d_out, r)`` of one module, expert ``number`` of a stack; views of what is stored."""
        if self.kernel:
            return a.flatten(1), b.flatten(1)
        rank = self.module_rank(a.shape)
        return a[number * rank : (number + 1) * rank], b.reshape(b.shape[0], rank, self.experts)[:, :, number]

    def packed(self, modules: Sequence[LowRank]) -> tuple[Tensor, Tensor]:
        """A and B as they are stored, from the layer's modules in order, all of one rank."""
        if self.experts == 1:
            (only,) = modules
            a, b = self.shapes(only.rank, only.shape)
            return only.A.reshape(a), only.B.reshape(b)
        return torch.cat([module.A for module in modules]), torch.stack([module.B for module in modules], 2).flatten(1)


def split_name(module: str) -> tuple[str, int]:
    """A module's layer, and its number among the layer's experts (0 where there is no stack)."""
    layer, _, number = module.partition(_EXPERT)
    return layer, int(number or 0)


def layer_path(module: str) -> str:
    """Where a module's layer is in the base model: PEFT wraps a layer once for each of its stacked parameters."""
    layer = split_name(module)[0]
    while layer.endswith(".base_layer"):
        layer = layer.removesuffix(".base_layer")
    return layer
