"""LoRA layers on a frozen base: attaching them, and writing them with bytes that depend on nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from prefdelta.adapters.applied import Branch
from prefdelta.adapters.config import read_config
from prefdelta.adapters.names import PREFIX
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import file_digest
from prefdelta.recipe import Lora, ModelRef

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_A, _B = ".lora_A.weight", ".lora_B.weight"


def attach(base: PreTrainedModel, lora: Lora, ref: ModelRef, *, init_seed: int) -> PeftModel:
    """Freeze ``base`` and put trainable LoRA layers (fp32) into it, in place.

    ``A`` is drawn from ``init_seed`` and ``B`` is zero, so that the result computes what the base does. The base's
    own dropout is set to zero: its log-probabilities must be those of the reference. LoRA's dropout is the recipe's.

    PEFT draws ``A`` from the global generator only; it is seeded right before, and the caller restores it.

    Raises:
        PrefdeltaError: a target names no module of the base.
    """
    _silence_dropout(base)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
    )
    torch.manual_seed(init_seed)
    try:
        model = get_peft_model(base, config)
    except ValueError as error:
        raise PrefdeltaError(f"training.lora.targets does not fit {ref.path!r}: {error}") from error
    assert isinstance(model, PeftModel)
    # PEFT puts in the folder that the base was loaded from, which means nothing on another machine.
    _config(model).base_model_name_or_path = ref.path
    _config(model).revision = ref.revision
    return model


def adapter_digest(folder: Path) -> str:
    """The hash of a trained adapter's weights.

    Raises:
        PrefdeltaError: the folder holds no LoRA adapter with weights as safetensors.
    """
    read_config(folder)
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise PrefdeltaError(f"{folder} has no {ADAPTER_WEIGHTS}; save the adapter with PEFT as safetensors.")
    return file_digest(weights)


def attach_trained(base: PreTrainedModel, folder: Path, lora: Lora, ref: ModelRef) -> PeftModel:
    """Put an adapter that was trained before into ``base``, in place, to train it further.

    Its modules are its own; rank and alpha must be those of ``lora``, whose dropout it gets.

    Raises:
        PrefdeltaError: the folder holds no plain LoRA adapter, one of another shape, or one that does not fit the base.
    """
    _silence_dropout(base)
    written = read_config(folder)
    for name, value, wanted in (("r", written["r"], lora.r), ("alpha", written["lora_alpha"], lora.alpha)):
        if value != wanted:
            raise PrefdeltaError(f"the adapter {folder} has {name} {value}; set training.lora.{name}={value}.")
    if written.get("rank_pattern") or written.get("alpha_pattern") or written.get("modules_to_save"):
        raise PrefdeltaError(f"the adapter {folder} is no plain LoRA of one rank; it cannot be trained further.")
    config = LoraConfig.from_pretrained(str(folder))
    config.lora_dropout = lora.dropout
    try:
        model = PeftModel.from_pretrained(base, str(folder), config=config, is_trainable=True)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PrefdeltaError(f"the adapter {folder} does not fit {ref.path!r}: {reason}") from error
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    _config(model).base_model_name_or_path = ref.path
    _config(model).revision = ref.revision
    return model


def targets(model: PeftModel) -> list[str]:
    """The modules that carry LoRA layers, sorted; by the last part of their names where that says it exactly."""
    names = [name for name, _ in model.get_base_model().named_modules()]
    adapted = sorted(name.removesuffix(".lora_A") for name in names if name.endswith(".lora_A"))
    last = {name.rpartition(".")[2] for name in adapted}
    by_last = sorted(name for name in names if name.rpartition(".")[2] in last)
    return sorted(last) if by_last == adapted else adapted


def write_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter in PEFT's format.

    PEFT's own writer puts its target modules in an arbitrary order, adds a model card, and asks the Hub for the
    base's configuration; this one does none of that.
    """
    _write(_weights(model), _config(model), targets(model), folder)


@dataclass(frozen=True)
class Factors:
    """An adapter's trainable factors, apart from its base.

    Attributes:
        tensors: PEFT's name of a factor → the factor.
        config: the adapter's configuration.
        targets: the modules that it is for, as :func:`targets` names them.
    """

    tensors: Mapping[str, nn.Parameter]
    config: LoraConfig
    targets: Sequence[str]

    def branches(self) -> dict[str, Branch]:
        """Module → the update beside its weight; it moves with the factors."""
        scaling = self.config.lora_alpha / self.config.r
        found = {}
        for name, right in self.tensors.items():
            if name.endswith(_A):
                core = scaling * torch.eye(len(right), dtype=right.dtype, device=right.device)
                module = name.removeprefix(PREFIX).removesuffix(_A)
                found[module] = Branch(self.tensors[name.removesuffix(_A) + _B], core, right)
        return found

    def write(self, folder: Path) -> None:
        """Write the adapter as :func:`write_adapter` does."""
        _write(self.tensors, self.config, self.targets, folder)


def detach(model: PeftModel) -> Factors:
    """Take the adapter out of its base, which is left as it was before :func:`attach`, but frozen.

    Raises:
        PrefdeltaError: the adapter has factors of something else than linear layers.
    """
    weights = _weights(model)
    if strange := [name for name in weights if not name.endswith((_A, _B))]:
        module = strange[0].removeprefix(PREFIX).rpartition(".")[0]
        raise PrefdeltaError(
            f"training.lora.targets names {module!r}, and only linear layers can be trained together; leave it out, or "
            "set training.together to false."
        )
    factors = Factors({name: nn.Parameter(weight) for name, weight in weights.items()}, _config(model), targets(model))
    model.unload()
    return factors


def _weights(model: PeftModel) -> dict[str, Tensor]:
    # PEFT decides by itself to store the embeddings when it cannot look up the base; they are never trained here.
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: weights[name].detach() for name in sorted(weights)}


def _write(weights: Mapping[str, Tensor], lora: LoraConfig, modules: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    (folder / ADAPTER_WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    config = lora.to_dict()
    config.update(target_modules=list(modules), inference_mode=True)
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False, default=_plain) + "\n"
    (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")


def _config(model: PeftModel) -> LoraConfig:
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    return config


def _silence_dropout(base: PreTrainedModel) -> None:
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # Attention hands its rate to a fused function instead of a module.
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"adapter configuration holds a {type(value).__name__}")
