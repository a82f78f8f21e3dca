"""Names of the tensors in an adapter file: which are LoRA factors of which layer, and why other names are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from prefdelta.adapters.patterns import shown
from prefdelta.core.errors import PrefdeltaError

PREFIX = "base_model.model."

_FACTOR = re.compile(r"(?P<module>.+)\.(?P<factor>lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B)")
_MODULE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_NAME = 1_000
_WRAPPED = re.compile(r"(?:^|\.)(?:modules_to_save|original_module)(?:\.|$)")
# What other tools and variants call their tensors, and what such a name tells.
_FOREIGN = (
    (re.compile(r"lora_magnitude"), "a length that DoRA learns, and DoRA is no low-rank update"),
    (re.compile(r"lora_[AB]\.bias$"), "a bias of lora_bias, which is no part of a low-rank update"),
    (re.compile(r"\.lora_E$|ranknum"), "a part of AdaLoRA; save that adapter as plain LoRA"),
    (re.compile(r"lora_(?:unet|te\d?)_|lora_(?:up|down)\."), "a name of kohya's scripts; convert it to PEFT"),
    (re.compile(r"lora_[ab]$"), "a name of MLX; convert it to PEFT"),
    (re.compile(r"lora_[AB]$"), "a name of loralib; convert it to PEFT"),
    (
        re.compile(r"lora_(?:[AB]|embedding_[AB])\.[^.]+(?:\.weight)?$"),
        "a name that still carries the adapter's own name, as in a model's state dict; use save_pretrained of PEFT",
    ),
)  # fmt: skip


def sort_names(names: Iterable[str], file: Path) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """The names of A and B of every adapted layer, and the names of all other tensors, in sorted order.

    Raises:
        PrefdeltaError: a name belongs to a variant of LoRA or to another tool's format, a layer lacks a factor, or
            some names carry PEFT's prefix and others do not.
    """
    found: dict[str, dict[str, str]] = {}
    others: list[str] = []
    listed = sorted(names)
    prefixed = any(name.startswith(PREFIX) for name in listed)
    for name in listed:
        if len(name) > _LONGEST_NAME:
            raise PrefdeltaError(f"{file}: {shown(name)} is no name of a tensor.")
        match = _FACTOR.fullmatch(name)
        if match is None or not name.startswith(PREFIX):
            if "lora_" in name or "ranknum" in name:
                raise PrefdeltaError(f"{file}: tensor {name} is {_cause(name, match is not None, prefixed)}.")
            others.append(name)
            continue
        module = match["module"].removeprefix(PREFIX)
        if not _MODULE.fullmatch(module):
            raise PrefdeltaError(f"{file}: {module!r} is no module name.")
        if _WRAPPED.search(module):
            raise PrefdeltaError(
                f"{file}: tensor {name} is a LoRA factor of a module that modules_to_save also keeps a trained copy "
                "of, so its update is not B A alone; train with one of the two."
            )
        found.setdefault(module, {})[match["factor"].removesuffix(".weight")] = name
    layers = {module: _pair(module, factors, file) for module, factors in found.items()}
    for name in others:
        if name.removeprefix(PREFIX).removesuffix(".weight") in layers:
            raise PrefdeltaError(
                f"{file}: {name.removeprefix(PREFIX).removesuffix('.weight')} has LoRA factors as well as a trained "
                f"copy ({name}), of which PEFT loads the factors alone; remove what was not trained."
            )
    return layers, others


def _cause(name: str, factor: bool, others: bool) -> str:
    """Why a tensor with a LoRA's name is no factor that PEFT saved."""
    if factor:
        return (
            f"named without PEFT's prefix {PREFIX!r}"
            + (", which other names have: half of the modules were renamed" if others else "")
            + ", so PEFT would load nothing for it; rename it or save the adapter with PEFT"
        )
    for pattern, cause in _FOREIGN:
        if pattern.search(name):
            return cause
    return "no factor of a plain LoRA saved by PEFT (a variant of LoRA, or a file another tool wrote)"


def _pair(module: str, factors: Mapping[str, str], file: Path) -> tuple[str, str]:
    for a, b in (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")):
        if set(factors) == {a, b}:
            return factors[a], factors[b]
    raise PrefdeltaError(
        f"{file}: module {module} has {' and '.join(sorted(factors))} only; "
        "a LoRA needs both factors, so the file is incomplete."
    )
