"""What must hold of the inputs of a merge before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from prefdelta.adapter import Adapter
from prefdelta.adapter.storage import Storage, split_name
from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank
from prefdelta.merging.report import list_names
from prefdelta.merging.scale import Scale, check_scale
from prefdelta.merging.stack import Stack


def check_arguments(
    adapters: Sequence[Adapter],
    target: Path | None,
    weights: Sequence[float] | None,
    scale: Scale,
    rank: int | str | None,
    extra_weights: str,
) -> None:
    """Refuse arguments that no merge can be made of; ``target`` is where it is to be written, if it is.

    Raises:
        PrefdeltaError: no adapters, weights that do not fit them, a bad scale or rank, an output that would replace
            an input, or fully trained tensors that are not to be dropped.
    """
    if not adapters:
        raise PrefdeltaError("there is nothing to merge; give at least one adapter.")
    if weights is not None and len(weights) != len(adapters):
        raise PrefdeltaError(f"{len(weights)} weights were given for {len(adapters)} adapters.")
    if weights is not None and not all(math.isfinite(weight) for weight in weights):
        raise PrefdeltaError(f"merge weights must be finite, not {list(weights)}.")
    check_scale(scale)
    if not (rank is None or rank == "servable" or (isinstance(rank, int) and rank > 0)):
        raise PrefdeltaError(f"the rank must be a positive whole number or 'servable', not {rank!r}.")
    if extra_weights not in ("refuse", "drop"):
        raise PrefdeltaError(f"extra_weights must be 'refuse' or 'drop', not {extra_weights!r}.")
    place = target.resolve() if target else None
    for adapter in adapters:
        source = adapter.path.resolve()
        if place and (source == place or place in source.parents):
            raise PrefdeltaError(f"the output {target} would replace the input {adapter.path}; choose another folder.")
        if adapter.extra and extra_weights == "refuse":
            raise PrefdeltaError(
                f"{adapter.path} holds fully trained tensors beside its LoRA factors ({list_names(adapter.extra)}), "
                "and there is no meaningful merge of task heads; allow dropping them to merge the factors alone."
            )


def common_modules(adapters: Sequence[Adapter], labels: Sequence[str]) -> list[str]:
    """The union of the modules, sorted.

    Raises:
        PrefdeltaError: a module has two shapes or two kinds, or an adapter shares no module with the others.
    """
    _check_storage(adapters, labels)
    shapes: dict[str, tuple[tuple[int, int], str]] = {}
    for adapter, label in zip(adapters, labels, strict=True):
        for module in adapter.modules:
            shape, first = shapes.setdefault(module, (adapter.shape(module), label))
            if shape != adapter.shape(module):
                raise PrefdeltaError(
                    f"module {module} is {shape[0]}x{shape[1]} in {first} but {adapter.shape(module)[0]}x"
                    f"{adapter.shape(module)[1]} in {label}; the adapters belong to different base models."
                )
    for index, adapter in enumerate(adapters):
        own = set(adapter.modules)
        others = {module for place, other in enumerate(adapters) if place != index for module in other.modules}
        if len(adapters) > 1 and not own & others:
            raise PrefdeltaError(
                f"{labels[index]} shares no module with the other adapters (it adapts {list_names(adapter.modules)}); "
                "they belong to different base models."
            )
    return sorted(shapes)


def _check_storage(adapters: Sequence[Adapter], labels: Sequence[str]) -> None:
    """Refuse one layer in two kinds, and stacks of parameters that two adapters wrap differently."""
    first: dict[str, tuple[Storage, str]] = {}
    wrapped: dict[tuple[str, ...], str] = {}
    for adapter, label in zip(adapters, labels, strict=True):
        info = adapter.info
        for layer in dict.fromkeys(split_name(module)[0] for module in adapter.modules):
            kind, other = first.setdefault(layer, (info.stored(layer), label))
            if kind != info.stored(layer):
                raise PrefdeltaError(
                    f"layer {layer} is {info.stored(layer).kind} in {label} but {kind.kind} in {other}; the adapters "
                    "belong to different base models."
                )
        if info.target_parameters:
            wrapped.setdefault(info.target_parameters, label)
    if len(wrapped) > 1:
        (one, mine), (two, yours) = list(wrapped.items())[:2]
        raise PrefdeltaError(
            f"{mine} adapts the stacked parameters {', '.join(one)} and {yours} {', '.join(two)}; PEFT tells such "
            "layers apart by how it nests them, so both must adapt the same ones."
        )


def updates_of(adapters: Sequence[Adapter], module: str) -> tuple[list[int], Stack]:
    """The positions of the adapters that have the module, and every adapter's update of it, zero where it has none."""
    present = [index for index, adapter in enumerate(adapters) if module in adapter.modules]
    # The type of a zero update is the narrowest, so that it widens no other.
    nothing = LowRank.zero(adapters[present[0]].shape(module), torch.bfloat16), 1.0
    read = [adapter.stored(module) if index in present else nothing for index, adapter in enumerate(adapters)]
    return present, Stack.of([delta for delta, _ in read], [scaling for _, scaling in read])
