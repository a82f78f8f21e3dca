"""Weaker siblings of a model, made by damaging it: what is at hand where no weaker model can be fetched.

Each is the same model with less: layers left out, weights rounded to a few values, weights with noise. They still write
sentences; a token of ordinary text costs the student 2.09 nats, and them 2.48, 3.02 and 2.52 (measured on the first 128
tokens of six published answers). Their faults are of one kind, other than those of a model that was trained for a
shorter time or on less: what is learned from them says that the pipeline works, not that such pairs are good data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prefdelta.core.manifests import read_manifest
from prefdelta.core.models import load_tokenizer, load_weights
from prefdelta.core.outputs import staged_folder
from prefdelta.core.records import write_rows
from prefdelta.core.reference import ModelRef
from prefdelta.evaluation.instructions import plain_prompts
from prefdelta.experiments.real.topics import TOPICS

_LEFT_OUT = range(12, 15)
_BITS = 3
_GROUP = 16
_NOISE = 0.1

PROMPTS = "prompts.jsonl"


def shorter(model: PreTrainedModel) -> None:
    """Without three of its middle layers."""
    kept = [layer for place, layer in enumerate(model.model.layers) if place not in _LEFT_OUT]
    model.model.layers = nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)


def rounded(model: PreTrainedModel) -> None:
    """Every weight of its linear layers is the nearest of 8 values, evenly spaced within a group of 16."""
    for weight in _weights(model):
        groups = weight.float().reshape(-1, _GROUP)
        low, high = groups.amin(dim=1, keepdim=True), groups.amax(dim=1, keepdim=True)
        step = ((high - low) / (2**_BITS - 1)).clamp_min(torch.finfo(torch.float32).tiny)
        weight.copy_((((groups - low) / step).round() * step + low).reshape(weight.shape))


def noisy(model: PreTrainedModel) -> None:
    """Every weight of its linear layers has Gaussian noise of a tenth of the layer's own spread."""
    generator = torch.Generator().manual_seed(0)
    for weight in _weights(model):
        noise = torch.randn(weight.shape, generator=generator)
        weight.add_((_NOISE * float(weight.float().std()) * noise).to(weight.dtype))


SIBLINGS: Mapping[str, Callable[[PreTrainedModel], None]] = MappingProxyType(
    {"shorter": shorter, "rounded": rounded, "noisy": noisy}
)
"""Name -> what is done to the model."""


def sibling_folder(student: Path, name: str) -> Path:
    """The folder of a damaged sibling beside the student's, made now if it is not there yet.

    Raises:
        PrefdeltaError: the student cannot be loaded, or the folder cannot be written.
    """
    target = student.with_name(f"{student.name}-{name}")
    if read_manifest(target) is None:
        ref = ModelRef(path=str(student))
        with staged_folder(target) as staging, torch.no_grad():
            model = load_weights(ref, torch.device("cpu"))
            SIBLINGS[name](model)
            model.save_pretrained(staging)
            load_tokenizer(ref).save_pretrained(staging)
    return target


def prompts_folder(student: Path) -> Path:
    """The folder beside the student's with prompts to train on, ``prompts.jsonl``; made now if it is not there yet."""
    target = student.with_name("prompts")
    if read_manifest(target) is None:
        with staged_folder(target) as staging:
            write_rows(staging / PROMPTS, plain_prompts(TOPICS))
    return target


def _weights(model: PreTrainedModel) -> list[Tensor]:
    """Those of the linear layers but the output head."""
    head = model.get_output_embeddings()
    return [module.weight for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
