"""Low-rank branches on a frozen model: the merged model before it is folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from prefdelta.adapter import Adapter, MemoryAdapter
from prefdelta.adapter.storage import layer_path
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.applying import target_modules
from prefdelta.learning.directions import Directions, whole_updates

Coefficients = Callable[[str], Tensor]  # module → φ


def placed(model: nn.Module, module: str, directions: Directions) -> Directions:
    """Directions on their module's device, in float32, or in the module's own format if that is wider.

    Raises:
        PrefdeltaError: the module is of a kind that a branch cannot be put on.
    """
    target = model.get_submodule(layer_path(module))
    if not isinstance(target, nn.Linear | Conv1D) and type(target) is not nn.Embedding:
        raise PrefdeltaError(
            f"module {module} is a {type(target).__name__}; only linear layers and plain embeddings can carry a branch."
        )
    weight = target.weight
    assert isinstance(weight, Tensor)
    dtype = torch.promote_types(weight.dtype, torch.float32) if weight.is_floating_point() else torch.float32
    return directions.to(weight.device, dtype)


@contextmanager
def branches(model: nn.Module, directions: Mapping[str, Directions], coefficients: Coefficients) -> Iterator[nn.Module]:
    """The model with ΔW(φ) beside its weights, for the length of a ``with`` block.

    Inside it the model is in evaluation mode and its own parameters need no gradients, so that a backward pass
    reaches φ only. Outputs are those of the model with :meth:`Directions.fold` added to its weights, up to rounding.

    Args:
        model: any model of ``torch``; its weights are not touched.
        directions: module → directions, as :func:`placed` gives them.
        coefficients: asked for a module's φ at every forward pass.
    """
    with ExitStack() as stack:
        stack.enter_context(_frozen(model))
        for name, parts in directions.items():
            hook = _hook(parts, partial(coefficients, name))
            stack.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield model


@contextmanager
def adapter_on(model: nn.Module, adapter: Adapter | MemoryAdapter, scale: float = 1.0) -> Iterator[nn.Module]:
    """The model with ``scale`` times an adapter's update beside its weights; heads stored with it are not put on.

    Raises:
        PrefdeltaError: the adapter does not fit the model.
    """
    target_modules(model, adapter)
    parts = {
        module: placed(model, module, whole_updates([adapter.load(module, torch.float64)]))
        for module in adapter.modules
    }
    with branches(model, parts, lambda module: parts[module].left.new_full((1,), scale)) as branched:
        yield branched


def _hook(parts: Directions, coefficients: Callable[[], Tensor]) -> Callable[..., Tensor]:
    def add(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        core = parts.core(coefficients().to(parts.left.device, parts.left.dtype))
        if isinstance(module, nn.Embedding):
            inner = F.embedding(inputs[0], parts.right.T)
        else:
            inner = inputs[0].to(parts.right.dtype) @ parts.right.T
        return output + ((inner @ core.T) @ parts.left.T).to(output.dtype)

    return add


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    training = [(module, module.training) for module in model.modules()]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in training:
            module.training = mode
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)
