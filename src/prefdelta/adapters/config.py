"""What ``adapter_config.json`` says about the meaning of the weights: scaling, and features that change the formula."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdelta.adapters.patterns import Matcher, Patterns, shown
from prefdelta.adapters.storage import Storage, split_name
from prefdelta.adapters.targeting import Targets
from prefdelta.core.errors import PrefdeltaError

CONFIG_NAME = "adapter_config.json"
PLAIN = Storage()

_ADVICE = "merge that adapter into a model and extract a plain LoRA from it, or retrain it as plain LoRA"
_UNSUPPORTED = {
    "use_dora": "DoRA rescales the whole weight by a learned magnitude, which no low-rank update can express",
    "lora_bias": "lora_bias adds a bias beside the low-rank update",
    "alora_invocation_tokens": "activated LoRA applies the update to part of the tokens only",
    "use_qalora": "QA-LoRA pools the input before A",
    "use_bdlora": "block-diagonal LoRA stores its factors in blocks",
    "arrow_config": "Arrow routes between several adapters at run time",
    "kasa_config": "KaSA truncates the base weight and puts a learned diagonal between the factors",
    "monteclora_config": "MonteCLoRA samples its factors",
    "layer_replication": "layer_replication changes the base model's layers",
    "enable_lora": "PEFT before 0.3 adapted parts of a fused layer with it, by grouped factors whose product is not ΔW",
}
_LARGEST_RANK = 1 << 31
_LARGEST_FILE = 16 << 20  # bytes; the configuration of 20,000 adapted modules takes two of its millions
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter says about the model it belongs to.

    ``storage`` tells of the layers that are not stored as plain linear ones; ``target_parameters`` are the stacked
    parameters that it adapts, sorted.
    """

    base_model: str | None = None
    task_type: str | None = None
    fan_in_fan_out: bool = False
    storage: Mapping[str, Storage] = field(default_factory=dict)
    target_parameters: tuple[str, ...] = ()

    def stored(self, layer: str) -> Storage:
        """How a layer is stored."""
        return self.storage.get(layer, PLAIN)


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check an adapter's configuration.

    Raises:
        PrefdeltaError: the folder or file is missing, is no JSON object, is no LoRA, or uses a variant of LoRA
            whose update is not B A.
    """
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise PrefdeltaError(f"no adapter folder at {folder}; give the path of a folder saved by PEFT.")
    if not path.is_file():  # a pipe or device of that name would be read for ever
        raise PrefdeltaError(f"{folder} has no {CONFIG_NAME}; it is not a PEFT adapter.")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise PrefdeltaError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB; it is no configuration of PEFT's.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise PrefdeltaError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise PrefdeltaError(f"{path} holds no JSON object.")
    _check(config, path)
    return config


class LayerSettings:
    """The rank and the scaling that a configuration gives each layer, and whether it adapts the layer at all.

    Attributes:
        targets: which layers it adapts.

    Args:
        config: a configuration that :func:`read_config` has checked.
        path: its file, for messages.

    Raises:
        PrefdeltaError: a pattern is no regular expression or too costly, or keys contradict one another.
    """

    def __init__(self, config: Mapping[str, Any], path: Path) -> None:
        matcher = Matcher(path)
        self._ranks = Patterns(config.get("rank_pattern") or {}, "rank_pattern", matcher)
        self._alphas = Patterns(config.get("alpha_pattern") or {}, "alpha_pattern", matcher)
        self._rank = config["r"]
        self._alpha = config["lora_alpha"]
        self._rslora = bool(config.get("use_rslora"))
        self.targets = Targets(config, matcher)

    def rank(self, layer: str) -> int:
        """The rank r, after ``rank_pattern``."""
        return int(self._ranks.get(layer, self._rank))

    def scaling(self, layer: str) -> float:
        """The factor s in ΔW = s · B A: alpha / r, or alpha / √r with rsLoRA, after PEFT's per-module patterns."""
        alpha, rank = float(self._alphas.get(layer, self._alpha)), self.rank(layer)
        return alpha / math.sqrt(rank) if self._rslora else alpha / rank


def _check(config: Mapping[str, Any], path: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise PrefdeltaError(f"{path}: peft_type is {shown(kind)}, only LORA adapters can be read.")
    for key, reason in _UNSUPPORTED.items():
        if config.get(key):
            raise PrefdeltaError(f"{path}: {key} is set, and {reason}; {_ADVICE}.")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_BASE_CHANGING_INITS):
        raise PrefdeltaError(
            f"{path}: init_lora_weights is {shown(init)}, which also changes the base weights, so B A is not the "
            "update; save the adapter with PEFT's path_initial_model_for_weight_conversion first."
        )
    for key in ("base_model_name_or_path", "task_type"):
        if not _is_text(config.get(key)):
            raise PrefdeltaError(f"{path}: {key} must be text, not {shown(config[key])}.")
    if not _is_rank(config.get("r")):
        raise PrefdeltaError(f"{path}: r must be a positive whole number, not {shown(config.get('r'))}.")
    if not _is_number(config.get("lora_alpha")):
        raise PrefdeltaError(f"{path}: lora_alpha must be a number, not {shown(config.get('lora_alpha'))}.")
    for key in ("use_rslora", "fan_in_fan_out"):
        if not isinstance(config.get(key), bool | None):
            raise PrefdeltaError(f"{path}: {key} must be true or false, not {shown(config[key])}.")
    _check_pattern(config, "rank_pattern", path, valid=_is_rank)
    _check_pattern(config, "alpha_pattern", path, valid=_is_number)
    _check_parameters(config, path)


def _check_parameters(config: Mapping[str, Any], path: Path) -> None:
    listed = config.get("target_parameters") or []
    if not isinstance(listed, list) or not all(isinstance(name, str) and name.isprintable() for name in listed):
        raise PrefdeltaError(f"{path}: target_parameters must be a list of parameter names, not {shown(listed)}.")
    if listed and (config.get("rank_pattern") or config.get("alpha_pattern")):
        raise PrefdeltaError(
            f"{path}: target_parameters stands beside rank_pattern or alpha_pattern, which name parameters in a way "
            "that the weights file does not, so their scaling is unknown; retrain with one rank and alpha."
        )


def _check_pattern(config: Mapping[str, Any], name: str, path: Path, *, valid: Callable[[Any], bool]) -> None:
    pattern = config.get(name) or {}
    if not isinstance(pattern, dict):
        raise PrefdeltaError(f"{path}: {name} must be an object of module patterns, not {shown(pattern)}.")
    for key, value in pattern.items():
        if not valid(value):
            raise PrefdeltaError(f"{path}: {name} gives {shown(key)} the value {shown(value)}.")


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_RANK


def _is_number(value: Any) -> bool:
    # Compared, not converted: a whole number of 400 digits has no float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_text(value: Any) -> bool:
    """Absent, or text that can be written to a file; JSON also holds halves of characters."""
    return value is None or (isinstance(value, str) and value.isprintable())


def merged_config(info: AdapterInfo, ranks: Mapping[str, int]) -> dict[str, Any]:
    """The configuration of an adapter whose factors already hold all scaling: alpha = r in every module.

    Modules are named in full, so that PEFT adapts these and no others. ``r`` is the largest rank; modules of another
    rank get a ``rank_pattern`` and the same ``alpha_pattern``, which keeps their scaling 1 even for a reader that
    knows only ``lora_alpha / r``.
    """
    rank = max(ranks.values())
    stacked = {name for name in ranks if info.stored(split_name(name)[0]).experts > 1}
    pattern = {name: ranks[name] for name in sorted(ranks) if ranks[name] != rank}
    config = {
        "alpha_pattern": pattern,
        "base_model_name_or_path": info.base_model,
        "bias": "none",
        "fan_in_fan_out": info.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": pattern,
        "target_modules": sorted(ranks.keys() - stacked),
        "task_type": info.task_type,
    }
    return config | {"target_parameters": list(info.target_parameters)} if stacked else config
