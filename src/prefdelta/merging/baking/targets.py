"""Which stored tensor each adapted module means, and how its update lies in it.

The layer classes decide the orientation and the ties, and no file states them: the model is built on the meta device,
which costs no memory for its weights.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from prefdelta.adapters.storage import layer_path
from prefdelta.core.checkpoint import FLOATS, Checkpoint
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import loading
from prefdelta.core.names import list_names
from prefdelta.merging.baking.updates import Updates


@dataclass(frozen=True)
class Target:
    """One tensor of the output: ``source`` of the checkpoint plus the update of ``module``, if there is one.

    ``transposed`` says that the weight is stored as ΔWᵀ, which Conv1D and embeddings do.
    """

    source: str
    module: str | None
    transposed: bool = False


@dataclass(frozen=True)
class Plan:
    """The tensors that change, by output name; ``untied`` if the output head gets a weight of its own."""

    targets: Mapping[str, Target]
    untied: bool


def plan_targets(checkpoint: Checkpoint, updates: Updates, trust_remote_code: bool) -> Plan:
    """Find the tensor of every adapted module.

    Raises:
        PrefdeltaError: the model cannot be built, or a module is not in it, has another shape, or shares its weight
            in a way that cannot be undone.
    """
    model = _skeleton(checkpoint.folder, trust_remote_code)
    layers = dict(model.named_modules())
    modules = sorted(updates.shapes)
    stacked = next((module for module in modules if layer_path(module) != module), None)
    if stacked is not None:
        raise PrefdeltaError(
            f"{updates.owner} adapts the stacked parameters of {layer_path(stacked)}, which only the model's own "
            "code can tell apart; serve the adapter beside the base, or use PEFT's merge_and_unload."
        )
    place_of = _renaming(modules, layers, {}, f"{updates.owner} adapts", "this base model lacks")
    places = {module: place_of(module) for module in modules}
    ties = _ties(model)
    weights = [f"{place}.weight" for place in places.values()]
    key_of = _renaming(weights, checkpoint.tensors, ties, f"{checkpoint.folder} needs", "its safetensors files lack")

    targets: dict[str, Target] = {}
    untied = False
    for (module, place), name in zip(places.items(), weights, strict=True):
        key = key_of(name)
        partner = key_of(ties[name]) if name in ties else key
        source = key if key in checkpoint.tensors else partner
        transposed = isinstance(layers[place], Conv1D | nn.Embedding)
        _check(checkpoint, source, updates, module, transposed)
        targets[key] = Target(source, module, transposed)
        if name in ties:
            # Training moved one side only: the baked model keeps two weights where the base had one.
            if not _is_head(model, name, ties[name]):
                raise PrefdeltaError(f"{name} and {ties[name]} are one weight of the base model and stay so.")
            untied = True
            targets.setdefault(partner, Target(partner if partner in checkpoint.tensors else source, None))
    return Plan(targets, untied)


def _skeleton(folder: Path, trust_remote_code: bool) -> PreTrainedModel:
    with loading(f"the model in {folder}"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        named = getattr(transformers, (config.architectures or [""])[0], None)
        with torch.device("meta"):
            if named is not None:
                return named(config)
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


@dataclass(frozen=True)
class _Renaming:
    """Names on one side to names on the other: a prefix of whole parts is left out, or put in front."""

    drop: str = ""
    add: str = ""

    def __call__(self, name: str) -> str:
        return self.add + name.removeprefix(self.drop)


def _renaming(
    names: Sequence[str], known: Iterable[str], aliases: Mapping[str, str], owner: str, lacking: str
) -> _Renaming:
    """The one renaming that finds every name, or its alias, among the known ones.

    A checkpoint saved from the body of a model lacks the ``transformer.`` that the whole model's names begin with,
    and an adapter trained on the body lacks it too.
    """
    there = set(known)

    def missing(renaming: _Renaming) -> list[str]:
        return [name for name in names if not {renaming(name), renaming(aliases.get(name, name))} & there]

    if not (lost := missing(_Renaming())):
        return _Renaming()
    pivot = max(names, key=len)  # deep inside the model, where names are long and unambiguous
    parts = pivot.split(".")
    shorter = [_Renaming(drop=".".join(parts[:count]) + ".") for count in range(1, len(parts))]
    longer = [_Renaming(add=name.removesuffix(pivot)) for name in sorted(there) if name.endswith("." + pivot)]
    fits = [renaming for renaming in (*shorter, *longer) if not missing(renaming)]
    if len(fits) == 1:
        return fits[0]
    raise PrefdeltaError(f"{owner} {lost[0]!r}, which {lacking}; {_nearest(lost[0], there)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    listed = sorted(entry for entry in known if entry)
    near = difflib.get_close_matches(name, listed, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {list_names(listed)}."


def _ties(model: nn.Module) -> dict[str, str]:
    """Each tied parameter's partner, both ways."""
    seen: dict[int, str] = {}
    ties: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = seen.setdefault(id(parameter), name)
        if other != name:
            ties[name], ties[other] = other, name
    return ties


def _is_head(model: PreTrainedModel, *weights: str) -> bool:
    head = model.get_output_embeddings()
    return any(head is not None and model.get_submodule(name.removesuffix(".weight")) is head for name in weights)


def _check(checkpoint: Checkpoint, source: str, updates: Updates, module: str, transposed: bool) -> None:
    entry = checkpoint.tensors[source]
    shape = updates.shapes[module][::-1] if transposed else updates.shapes[module]
    if (entry.shape[0], math.prod(entry.shape[1:])) != shape:  # a convolution's weight has more than two sides
        raise PrefdeltaError(
            f"{updates.owner} adapts {module!r} as {shape[0]}x{shape[1]}, but {source} of this base model is "
            f"{'x'.join(map(str, entry.shape))}; the update was made for {updates.base_model!r}."
        )
    if entry.dtype not in FLOATS:
        raise PrefdeltaError(
            f"{checkpoint.folder}: {source} is stored as {entry.dtype}; bake the adapter into the unquantised model."
        )
