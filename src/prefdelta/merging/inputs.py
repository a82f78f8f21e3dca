"""What must hold of the inputs of a merge before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from prefdelta.adapter import Adapter
from prefdelta.adapter.config import common_info
from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank
from prefdelta.merging.report import list_names
from prefdelta.merging.scale import Scale, check_scale


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
    shapes: dict[str, tuple[tuple[int, int], str]] = {}
    for adapter, label in zip(adapters, labels, strict=True):
        for module in adapter.modules:
            shape, first = shapes.setdefault(module, (adapter.shape(module), label))
            if shape != adapter.shape(module):
                raise PrefdeltaError(
                    f"module {module} is {shape[0]}x{shape[1]} in {first} but {adapter.shape(module)[0]}x"
                    f"{adapter.shape(module)[1]} in {label}; the adapters belong to different base models."
                )
    embeddings = common_info(adapter.info for adapter in adapters).embeddings
    for index, adapter in enumerate(adapters):
        own = set(adapter.modules)
        clash = sorted((own & embeddings) - adapter.info.embeddings)
        if clash:
            raise PrefdeltaError(f"module {clash[0]} is a linear layer in {labels[index]} but an embedding in another.")
        others = {module for place, other in enumerate(adapters) if place != index for module in other.modules}
        if len(adapters) > 1 and not own & others:
            raise PrefdeltaError(
                f"{labels[index]} shares no module with the other adapters (it adapts {list_names(adapter.modules)}); "
                "they belong to different base models."
            )
    return sorted(shapes)


def updates_of(adapters: Sequence[Adapter], module: str) -> tuple[list[int], list[LowRank]]:
    """The positions of the adapters that have the module, and every adapter's update of it, zero where it has none.

    Updates come in float64.
    """
    present = [index for index, adapter in enumerate(adapters) if module in adapter.modules]
    shape = adapters[present[0]].shape(module)
    return present, [
        adapter.load(module, torch.float64) if index in present else LowRank.zero(shape)
        for index, adapter in enumerate(adapters)
    ]
