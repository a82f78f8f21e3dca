"""Putting LoRA adapters on a loaded model for the length of a ``with`` block, at any scale λ, without a trace.

:func:`adapted` is the one way to do it, for any model of ``torch``; nested blocks add their updates up.
:func:`applied` is the same for a :class:`prefdelta.core.models.LoadedModel`. Three ways give the same model:

* *folding*: W + λ ΔW is written into W, in float32, and the saved W is put back afterwards, so that the base is
  restored bit for bit. Decoding then costs what the base costs. It is used where it is exact enough and pays: a float32
  base of at most 100 million parameters whose adapted modules are plain linear layers that share their weight with no
  other module. On the embedded student (CPU, one thread, rank 8 on all linear layers) a branch takes 1.3 to 1.6 times
  as long.
* *branches* (:func:`branches`): forward hooks compute W x + λ B (A x) beside the frozen W, in float32 or wider, and
  round the sum once. It is the right way for a base in 16 bits: there W + λ ΔW would be rounded to W's grid, whose step
  (2^-8 of a weight in bfloat16) is larger than most of what a few dozen training steps change. Linear layers, Conv1D
  and plain embeddings can carry a branch. Learned merges put the same hooks on, with gradients through what they learn.
* *PEFT's own layers*: for convolutions, stacked experts and fully trained modules, which only PEFT's code places.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from prefdelta.adapters.memory import LoraAdapter
from prefdelta.adapters.names import PREFIX
from prefdelta.adapters.reader import Adapter
from prefdelta.adapters.storage import layer_path
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.linalg.lowrank import LowRank

_FOLD_AT_MOST = 100_000_000
_TRAINED_TOKENS = ("trainable_tokens_delta", "token_adapter")


class Branch(NamedTuple):
    """An update beside a weight, ΔW = left core right.

    Attributes:
        left: ``(d_out, p)``.
        core: ``(p, q)``.
        right: ``(q, d_in)``.
    """

    left: Tensor
    core: Tensor
    right: Tensor


@contextmanager
def adapted(
    model: nn.Module,
    adapter: LoraAdapter | None,
    scale: float = 1.0,
    *,
    fold: bool | None = None,
    heads: bool = True,
) -> Iterator[nn.Module]:
    """The model with ``scale`` times an adapter's update, for the length of a ``with`` block.

    Args:
        model: the base; it must not be used in the block except through the yielded model.
        adapter: an adapter of any rank, or ``None`` for the base itself.
        scale: λ, on top of the adapter's own scaling: a finite number, negative to subtract the update.
        fold: whether to fold the update into the weights; chosen by itself if left out.
        heads: whether fully trained modules that are stored with the adapter are put on too.

    Raises:
        PrefdeltaError: the scale is not finite, the adapter adapts a module that the base has not, or has in another
            shape, or it holds a table that differs from the base's, or trained tensors that PEFT would load over the
            base's own.
    """
    if not math.isfinite(scale):
        raise PrefdeltaError(f"the scale must be a finite number, not {scale}.")
    if adapter is None or scale == 0:
        yield model
        return
    targets = target_modules(model, adapter)
    extra = adapter.extra if heads else ()
    check_tables(model, adapter, extra)
    if fold or (fold is None and not extra and _may_fold(model, targets)):
        with _folded(targets, adapter, scale):
            yield model
    elif not extra and all(carries_branch(module) for module in targets.values()):
        parts = {name: _branch(module, adapter.load(name, torch.float64), scale) for name, module in targets.items()}
        with branches(model, {name: partial(Branch, *branch) for name, branch in parts.items()}):
            yield model
    else:
        with _with_peft(model, adapter, scale) as changed:
            yield changed


@contextmanager
def applied(
    loaded: LoadedModel, adapter: Path | LoraAdapter | None, scale: float, *, fold: bool | None = None
) -> Iterator[LoadedModel]:
    """A loaded model with ``scale`` times the update of an adapter or of the folder of one; see :func:`adapted`.

    Raises:
        PrefdeltaError: as :func:`adapted`, or the folder cannot be read.
    """
    opened = Adapter.open(adapter) if isinstance(adapter, Path) else adapter
    with adapted(loaded.model, opened, scale, fold=fold) as model:
        yield loaded if model is loaded.model else replace(loaded, model=model)


@contextmanager
def branches(model: nn.Module, updates: Mapping[str, Callable[[], Branch]]) -> Iterator[nn.Module]:
    """The model with updates beside its weights, for the length of a ``with`` block.

    Inside it the model is in evaluation mode and its own parameters need no gradients, so that a backward pass reaches
    only what the updates are made of.

    Args:
        model: any model of ``torch``; its weights are not touched.
        updates: module → its update, asked for at every forward pass.
    """
    with ExitStack() as stack:
        stack.enter_context(_frozen(model))
        for name, update in updates.items():
            stack.callback(model.get_submodule(name).register_forward_hook(_hook(update)).remove)
        yield model


@contextmanager
def row_branches(
    model: nn.Module, updates: Mapping[str, Sequence[Branch]], rows: Callable[[], Sequence[int]]
) -> Iterator[nn.Module]:
    """The model with several adapters beside its weights, each for rows of its own of every batch.

    As :func:`branches`, and the frozen part is computed once for all rows.

    Args:
        model: any model of ``torch``; its weights are not touched.
        updates: linear layer → the update of each adapter.
        rows: how many rows of the batch belong to each adapter, which follow one another in the adapters' order; asked
            at every forward pass of a module, also in the backward pass of a checkpointed one.

    Raises:
        PrefdeltaError: in a forward pass, a module is not given the rows of the batch but something else, as the
            experts of a mixture are.
    """
    with ExitStack() as stack:
        stack.enter_context(_frozen(model))
        for name, each in updates.items():
            stack.callback(model.get_submodule(name).register_forward_hook(_row_hook(name, each, rows)).remove)
        yield model


def carries_branch(module: nn.Module) -> bool:
    """Whether a module is one that :func:`branches` can put an update beside."""
    return isinstance(module, nn.Linear | Conv1D) or type(module) is nn.Embedding


def branch_dtype(module: nn.Module) -> torch.dtype:
    """The type that a module's branch is computed in: float32, or the module's own type if that is wider."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return torch.promote_types(weight.dtype, torch.float32) if weight.is_floating_point() else torch.float32


def _hook(update: Callable[[], Branch]) -> Callable[..., Tensor]:
    def add(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        left, core, right = update()
        if isinstance(module, nn.Embedding):
            inner = F.embedding(inputs[0], right.T)
        else:
            inner = inputs[0].to(right.dtype) @ right.T
        return (output + (inner @ core.T) @ left.T).to(output.dtype)

    return add


def _row_hook(name: str, updates: Sequence[Branch], rows: Callable[[], Sequence[int]]) -> Callable[..., Tensor]:
    def add(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        counts = list(rows())
        if output.dim() != 3 or len(output) != sum(counts):
            raise PrefdeltaError(
                f"the module {name} is given something else than the rows of a batch, as the experts of a mixture are: "
                "adapters on it cannot be trained together; train them one after the other."
            )
        parts = [
            (part.to(right.dtype) @ right.T @ core.T) @ left.T
            for part, (left, core, right) in zip(inputs[0].split(counts), updates, strict=True)
            if len(part)
        ]
        return (output + torch.cat(parts)).to(output.dtype)

    return add


def _branch(module: nn.Module, update: LowRank, scale: float) -> Branch:
    weight = module.weight
    assert isinstance(weight, Tensor)
    # Contiguous, so that an adapter in memory and its folder are multiplied in the same order.
    left, right = (factor.to(weight.device, branch_dtype(module)).contiguous() for factor in (update.B, update.A))
    return Branch(left, scale * torch.eye(update.rank, dtype=left.dtype, device=left.device), right)


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


def is_empty(adapter: Path | LoraAdapter) -> bool:
    """Whether the adapter's update is zero in every module."""
    opened = Adapter.open(adapter) if isinstance(adapter, Path) else adapter
    return not opened.extra and all(opened.load(module).norm() == 0 for module in opened.modules)


def target_modules(base: nn.Module, adapter: LoraAdapter) -> dict[str, nn.Module]:
    """The modules of a model that an adapter adapts, by name.

    Raises:
        PrefdeltaError: the model lacks one, or has it in another shape.
    """
    found = {}
    for name in adapter.modules:
        try:
            module = base.get_submodule(layer_path(name))
        except AttributeError as error:
            raise PrefdeltaError(
                f"{adapter.path} adapts {name!r}, which this base model lacks{_made_for(adapter)}."
            ) from error
        shape = _shape(module)
        if shape is not None and shape != tuple(adapter.shape(name)):
            raise PrefdeltaError(
                f"{adapter.path} adapts {name!r} as {tuple(adapter.shape(name))}, but this base model has it as "
                f"{shape}{_made_for(adapter)}."
            )
        found[name] = module
    return found


def _shape(module: nn.Module) -> tuple[int, ...] | None:
    """(outputs, inputs) of a layer that carries a branch; only a linear one keeps its weight this way round."""
    if not carries_branch(module):
        return None
    weight = module.weight
    assert isinstance(weight, Tensor)
    return tuple(weight.shape if isinstance(module, nn.Linear) else weight.shape[::-1])


def _may_fold(base: nn.Module, targets: dict[str, nn.Module]) -> bool:
    parameters = list(base.named_parameters(remove_duplicate=False))
    uses = Counter(id(parameter) for _, parameter in parameters)
    return (
        all(parameter.dtype == torch.float32 for _, parameter in parameters)
        and sum(parameter.numel() for parameter in base.parameters()) <= _FOLD_AT_MOST
        and all(isinstance(module, nn.Linear | Conv1D) for module in targets.values())
        and all(uses[id(module.weight)] == 1 for module in targets.values())
    )


@contextmanager
def _folded(targets: dict[str, nn.Module], adapter: LoraAdapter, scale: float) -> Iterator[None]:
    saved: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for name, module in targets.items():
                weight = module.weight
                assert isinstance(weight, Tensor)
                update = adapter.load(name)
                delta = (scale * update.B.double() @ update.A.double()).to(weight.device)
                saved[name] = weight.detach().clone()
                weight.copy_(weight.double() + (delta.T if isinstance(module, Conv1D) else delta))
        yield
    finally:
        with torch.no_grad():
            for name, original in saved.items():
                weight = targets[name].weight
                assert isinstance(weight, Tensor)
                weight.copy_(original)


@contextmanager
def _with_peft(model: nn.Module, adapter: LoraAdapter, scale: float) -> Iterator[nn.Module]:
    # Here, since PEFT imports every library for quantised weights, for seconds.
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    with _frozen(model):
        if isinstance(adapter, Adapter):
            peft = PeftModel.from_pretrained(model, str(adapter.path)).eval()
        else:
            peft = PeftModel(model, LoraConfig.from_peft_type(**adapter.config)).eval()
            set_peft_model_state_dict(peft, adapter.tensors())
        try:
            for module in peft.modules():
                if isinstance(module, LoraLayer):
                    module.scale_layer(scale)
            yield peft
        finally:
            peft.unload()


def _made_for(adapter: LoraAdapter) -> str:
    """Which base an adapter's configuration names, for a message."""
    return f"; it was made for {adapter.base_model!r}" if adapter.base_model else ""


def check_tables(model: nn.Module, adapter: LoraAdapter, extra: Sequence[str] = ()) -> None:
    """Refuse what PEFT would load over the base's own weights, and could not take off again.

    Args:
        model: a model that :func:`target_modules` finds the adapter's modules in.
        adapter: the adapter.
        extra: the fully trained tensors that are to be put on too.

    Raises:
        PrefdeltaError: the configuration does not name one of them, or a table of the base in the adapter differs from
            this base's.
    """
    kept = [*(adapter.config.get("modules_to_save") or ()), *_TRAINED_TOKENS]
    for name in extra:
        if not any(module in name.split(".") for module in kept):
            raise PrefdeltaError(
                f"{adapter.path} holds {name}, which its modules_to_save do not name: PEFT would load it over the "
                "base's own weight; use PEFT's merge_and_unload for this adapter."
            )
    if not isinstance(adapter, Adapter):
        return  # what was never written has nothing beside its factors
    for name in adapter.base_copies:
        weight = model.get_submodule(name.removeprefix(PREFIX).partition(".base_layer.")[0]).weight
        assert isinstance(weight, Tensor)
        copy = adapter.base_copy(name)
        if copy.shape != weight.shape or not torch.equal(copy.to(weight.device, weight.dtype), weight):
            raise PrefdeltaError(
                f"{adapter.path} holds a whole table, {name}, which differs from this base model's (a resized "
                "vocabulary, or another base); save a base with that table and use it instead."
            )
