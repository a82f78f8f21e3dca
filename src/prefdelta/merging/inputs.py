"""What a merge is made of: its method, options, weights and adapters, checked before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from prefdelta.adapters import Adapter
from prefdelta.adapters.names import PREFIX
from prefdelta.adapters.storage import Storage, split_name
from prefdelta.adapters.targeting import refuse_two_namings
from prefdelta.core.checkpoint import BLOCK_ENTRIES, FLOATS, INDEX_NAME, SINGLE_NAME, Checkpoint
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.names import list_names, tell_apart
from prefdelta.core.outputs import check_place
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.merging.registry import Method, Options, checked_weights, configured
from prefdelta.merging.scale import Scale, check_scale

_DROP = "allow dropping such tensors (--drop-modules-to-save) to merge the factors alone"


@dataclass(frozen=True)
class Inputs:
    """What a merge is made of, checked.

    Attributes:
        method: how.
        options: the method's own.
        adapters: what is merged.
        labels: what they are called, each differently.
        weights: one for each.
        scale: λ or a rule.
        modules: the union of their modules, sorted.
    """

    method: Method
    options: Options
    adapters: Sequence[Adapter]
    labels: Sequence[str]
    weights: Sequence[float]
    scale: Scale
    modules: Sequence[str]


def prepare(
    adapters: Sequence[Adapter | Path | str],
    target: Path | None,
    *,
    method: str,
    options: Mapping[str, Any] | Options | None,
    weights: Sequence[float] | None,
    scale: Scale,
    rank: int | str | None = None,
    extra_weights: str,
) -> Inputs:
    """Check what every merge begins with, the arguments before the files; ``target`` is where it is written, if it is.

    Raises:
        PrefdeltaError: there is no such method or option, an adapter cannot be read, an argument is wrong
            (:func:`check_arguments`), or the adapters do not fit together (:func:`common_modules`).
    """
    chosen, checked = configured(method, options, len(adapters))
    opened = [entry if isinstance(entry, Adapter) else Adapter.open(entry) for entry in adapters]
    check_arguments(opened, target, weights, scale, rank, extra_weights)
    labels = tell_apart([adapter.path for adapter in opened])
    factors = checked_weights(weights, len(opened))
    return Inputs(chosen, checked, opened, labels, factors, scale, common_modules(opened, labels))


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
    checked_weights(weights, len(adapters))
    check_scale(scale)
    if not (rank is None or rank == "servable" or (isinstance(rank, int) and rank > 0)):
        raise PrefdeltaError(f"the rank must be a positive whole number or 'servable', not {rank!r}.")
    if extra_weights not in ("refuse", "drop"):
        raise PrefdeltaError(f"extra_weights must be 'refuse' or 'drop', not {extra_weights!r}.")
    if target:
        check_place(target, [adapter.path for adapter in adapters])
    for adapter in adapters:
        if extra_weights == "refuse":
            refuse_trained_tensors(adapter)


def refuse_trained_tensors(adapter: Adapter, advice: str = _DROP) -> None:
    """Refuse an adapter that is more than low-rank updates of its base's weights.

    Args:
        adapter: the adapter.
        advice: what to do instead, for the message.

    Raises:
        PrefdeltaError: it holds fully trained tensors, or lacks those that its configuration names.
    """
    if adapter.extra:
        raise PrefdeltaError(
            f"{adapter.path} holds fully trained tensors beside its LoRA factors ({list_names(adapter.extra)}), "
            f"which are no low-rank update; {advice}."
        )
    if saved := adapter.config.get("modules_to_save"):
        raise PrefdeltaError(
            f"{adapter.path} trained modules_to_save ({list_names(sorted(saved))}) that its weights file lacks, so it "
            f"is incomplete; {advice}."
        )
    if adapter.config.get("trainable_token_indices"):
        raise PrefdeltaError(
            f"{adapter.path} trained single tokens (trainable_token_indices) that its weights file lacks, so it is "
            f"incomplete; {advice}."
        )


def refuse_base_copies(adapters: Iterable[Adapter], base: Path | None = None, advice: str = _DROP) -> None:
    """Refuse adapters that hold a table of the base which is not known to equal the base's own.

    PEFT stores the whole table beside an adapted embedding or head, and loads it over the base's.

    Args:
        adapters: the adapters.
        base: their base model's folder; the one that each configuration names if left out.
        advice: what to do instead, for the message.

    Raises:
        PrefdeltaError: a copy differs from the base's table or cannot be compared with it.
    """
    for adapter in adapters:
        for name in adapter.base_copies:
            if problem := _copy_problem(adapter, name, base):
                raise _unlike(adapter, name, problem, advice)


def kept_copies(adapters: Sequence[Adapter]) -> dict[str, Adapter]:
    """The tables of the base that a merge must carry over for PEFT to load them, with an adapter that holds each.

    A table that equals the base's own is left out. Another one, of a vocabulary that was resized, is kept where every
    adapter holds the same.

    Raises:
        PrefdeltaError: adapters hold different tables, or some hold one and others do not.
    """
    kept = {}
    for name in sorted({name for adapter in adapters for name in adapter.base_copies}):
        holders = [adapter for adapter in adapters if name in adapter.base_copies]
        problem = next((text for adapter in holders if (text := _copy_problem(adapter, name, None))), None)
        if problem is None:
            continue
        if len(holders) < len(adapters) or not all(_same_copy(holders[0], other, name) for other in holders[1:]):
            raise _unlike(holders[0], name, f"{problem}, and the other adapters do not hold the same", _DROP)
        kept[name] = holders[0]
    return kept


def _unlike(adapter: Adapter, name: str, problem: str, advice: str) -> PrefdeltaError:
    return PrefdeltaError(
        f"{adapter.path} holds a whole table, {name}, which PEFT loads over the base's, and {problem}; save the base "
        f"with that table and name it in base_model_name_or_path, or else {advice}."
    )


def _same_copy(one: Adapter, other: Adapter, name: str) -> bool:
    height, *width = one.stored_shape(name)
    rows = max(1, BLOCK_ENTRIES // max(1, math.prod(width)))
    return one.stored_shape(name) == other.stored_shape(name) and all(
        torch.equal(one.base_copy(name, first, rows), other.base_copy(name, first, rows))
        for first in range(0, height, rows)
    )


def _copy_problem(adapter: Adapter, name: str, base: Path | None) -> str | None:
    """What speaks against leaving a copy of a base weight out of account; ``None`` if it equals the base's."""
    folder = base or _known_folder(adapter.base_model)
    if folder is None:
        return f"the base model {adapter.base_model!r} is not on this machine to compare it with"
    try:
        checkpoint = Checkpoint(folder)
    except PrefdeltaError as error:
        return f"the base model cannot be compared with it ({str(error).rstrip('.')})"
    tensor = name.removeprefix(PREFIX).replace(".base_layer.", ".")
    shape, stored = adapter.stored_shape(name), checkpoint.tensors
    if tensor in stored and stored[tensor].shape != shape:
        return f"it is {_size(shape)} where the base model in {folder} has {_size(stored[tensor].shape)}"
    # A head that is tied to the embedding, or a table under an older name, is the stored tensor of its shape.
    like = [tensor] if tensor in stored else [other for other in stored if stored[other].shape == shape]
    if any(stored[other].dtype in FLOATS and _equals(adapter, name, checkpoint, other) for other in like):
        return None
    return f"it differs from the base model's in {folder}" if like else f"the base model in {folder} has no such table"


def _equals(adapter: Adapter, name: str, checkpoint: Checkpoint, tensor: str) -> bool:
    for first, rows in checkpoint.rows(tensor):
        copy = adapter.base_copy(name, first, len(rows))
        # The base may have been loaded in another type for training: equal in either type is the same weight.
        if not torch.equal(rows.to(copy.dtype), copy) and not torch.equal(rows, copy.to(rows.dtype)):
            return False
    return True


def _known_folder(name: str | None) -> Path | None:
    """The folder of a base model that a configuration names, if it is on this machine; nothing is downloaded."""
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name)
    for file in (INDEX_NAME, SINGLE_NAME):
        try:
            found = try_to_load_from_cache(name, file)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def common_modules(adapters: Sequence[Adapter], labels: Sequence[str]) -> list[str]:
    """The union of the modules, sorted.

    Raises:
        PrefdeltaError: a module has two shapes or two kinds, or an adapter shares no module with the others.
    """
    _check_storage(adapters, labels)
    owners = {module: label for adapter, label in zip(adapters, labels, strict=True) for module in adapter.modules}
    refuse_two_namings(owners)
    shapes = module_shapes(adapters, labels)
    for index, adapter in enumerate(adapters):
        own = set(adapter.modules)
        others = {module for place, other in enumerate(adapters) if place != index for module in other.modules}
        if len(adapters) > 1 and not own & others:
            raise PrefdeltaError(
                f"{labels[index]} shares no module with the other adapters (it adapts {list_names(adapter.modules)}); "
                "they belong to different base models."
            )
    return list(shapes)


def module_shapes(adapters: Sequence[Adapter], labels: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(d_out, d_in) of every module of any adapter, sorted by name.

    Raises:
        PrefdeltaError: two adapters have a module in two shapes.
    """
    found: dict[str, tuple[tuple[int, int], str]] = {}
    for adapter, label in zip(adapters, labels, strict=True):
        for module in adapter.modules:
            shape, first = found.setdefault(module, (adapter.shape(module), label))
            if shape != adapter.shape(module):
                raise PrefdeltaError(
                    f"module {module} is {shape[0]}x{shape[1]} in {first} but {adapter.shape(module)[0]}x"
                    f"{adapter.shape(module)[1]} in {label}; the adapters belong to different base models."
                )
    return {module: found[module][0] for module in sorted(found)}


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
    present = [index for index, adapter in enumerate(adapters) if module in adapter]
    # The type of a zero update is the narrowest, so that it widens no other.
    nothing = LowRank.zero(adapters[present[0]].shape(module), torch.bfloat16), 1.0
    read = [adapter.stored(module) if index in present else nothing for index, adapter in enumerate(adapters)]
    return present, Stack.of([delta for delta, _ in read], [scaling for _, scaling in read])
