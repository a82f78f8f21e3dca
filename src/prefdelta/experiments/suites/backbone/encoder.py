"""A backbone as a suite uses it: one vector of features per example, and a head per task on top of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, BertModel, CLIPVisionModelWithProjection, PreTrainedModel, ViTModel

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import local_folder
from prefdelta.core.models import default_device, torch_dtype
from prefdelta.experiments.suites.backbone.vit import CLASS_NAMES, CLASS_VECTORS, MODEL, vit_features
from prefdelta.recipe import ModelRef
from prefdelta.recipe.suite import (
    Backbone,
    BertBackbone,
    ClipBackbone,
    EncoderBackbone,
    TextBackbone,
    VitBackbone,
)

Inputs = Mapping[str, Tensor]
Features = Callable[[nn.Module, Inputs], Tensor]
"""(model, inputs) -> ``(n, hidden)`` float32."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Head:
    """A task's classes as rows of ``weight (classes, hidden)``; a logit is ``scale`` * ⟨row, feature⟩ + bias."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0

    def __call__(self, features: Tensor) -> Tensor:
        """Features ``(n, hidden)`` -> logits ``(n, classes)``."""
        scores = self.scale * (features @ self.weight.to(features.device).T)
        return scores if self.bias is None else scores + self.bias.to(features.device)

    def write(self, path: Path) -> None:
        """Store it as safetensors."""
        tensors = {"weight": self.weight.detach().cpu().contiguous(), "scale": torch.tensor(self.scale)}
        if self.bias is not None:
            tensors["bias"] = self.bias.detach().cpu().contiguous()
        path.write_bytes(save(tensors))

    @staticmethod
    def read(path: Path) -> Head:
        """What :meth:`write` stored."""
        tensors = load_file(path)
        return Head(tensors["weight"], tensors.get("bias"), float(tensors["scale"]))


@dataclass(frozen=True)
class Encoder:
    """A loaded backbone in evaluation mode.

    Attributes:
        model: what adapters are put on.
        features: how its features are read.
        hidden: how many they are.
    """

    model: PreTrainedModel
    features: Features
    hidden: int

    def logits(self, head: Head) -> Callable[[nn.Module, Inputs], Tensor]:
        """``(model, inputs) -> logits`` under a head; ``model`` is this one, with or without an adapter on it."""

        def compute(model: nn.Module, inputs: Inputs) -> Tensor:
            return head(self.features(model, inputs))

        return compute


def load_encoder(backbone: Backbone, folder: Path | None) -> Encoder:
    """Load a backbone onto the default device.

    Args:
        backbone: what the recipe says of it.
        folder: the artifact of its pretraining, if it was pretrained here.

    Raises:
        PrefdeltaError: a model cannot be found or read.
    """
    if isinstance(backbone, VitBackbone):
        assert folder is not None
        model = ViTModel.from_pretrained(folder / MODEL, add_pooling_layer=False)
        return _ready(model, vit_features, backbone.hidden)
    if isinstance(backbone, BertBackbone):
        assert folder is not None
        model = BertModel.from_pretrained(folder / MODEL, add_pooling_layer=False)
        return _ready(model, _first_position, backbone.hidden)
    if isinstance(backbone, ClipBackbone):
        model = _pretrained(CLIPVisionModelWithProjection, backbone.model)
        return _ready(model, _clip_features, model.config.projection_dim)
    model = _pretrained(AutoModel, backbone.model)
    read = _mean if isinstance(backbone, EncoderBackbone) else _last_position
    return _ready(model, read, model.config.get_text_config().hidden_size)


def load_tokenizer(backbone: TextBackbone, folder: Path | None) -> AutoTokenizer:
    """The tokenizer of a backbone of text; it pads on the right and cuts at the recipe's ``max_length``."""
    if isinstance(backbone, BertBackbone):
        assert folder is not None
        tokenizer = AutoTokenizer.from_pretrained(folder / MODEL)
    else:
        where = local_folder(backbone.model) or backbone.model.path
        tokenizer = AutoTokenizer.from_pretrained(where, revision=backbone.model.revision)
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = backbone.max_length
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def pretrained_head(folder: Path, classes: Sequence[str], temperature: float) -> Head:
    """The head that pretraining left for a task: the unit vectors of its classes, over the temperature."""
    names = {name: place for place, name in enumerate(json.loads((folder / CLASS_NAMES).read_text(encoding="utf-8")))}
    vectors = load_file(folder / CLASS_VECTORS)["vectors"]
    return Head(vectors[torch.tensor([names[name] for name in classes])], scale=1 / temperature)


def _pretrained(kind: type[PreTrainedModel] | type[AutoModel], ref: ModelRef) -> PreTrainedModel:
    try:
        return kind.from_pretrained(
            local_folder(ref) or ref.path,
            revision=ref.revision,
            dtype=torch_dtype(ref, default_device()),
            trust_remote_code=ref.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PrefdeltaError(f"cannot load the backbone {ref.path!r}: {reason}") from error


def _ready(model: PreTrainedModel, features: Features, hidden: int) -> Encoder:
    return Encoder(model.to(default_device()).eval(), features, hidden)


def _clip_features(model: nn.Module, inputs: Inputs) -> Tensor:
    pixels = inputs["pixel_values"]
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    dtype = next(model.parameters()).dtype
    images = ((pixels.float() / 255 - mean) / std).to(dtype)
    return functional.normalize(model(pixel_values=images).image_embeds.float(), dim=-1)


def _first_position(model: nn.Module, inputs: Inputs) -> Tensor:
    trimmed, _ = _trimmed(inputs)
    hidden: Tensor = model(**trimmed).last_hidden_state[:, 0]
    return hidden.float()


def _mean(model: nn.Module, inputs: Inputs) -> Tensor:
    trimmed, lengths = _trimmed(inputs)
    hidden = model(**trimmed).last_hidden_state.float()
    return (hidden * trimmed["attention_mask"][:, :, None]).sum(dim=1) / lengths[:, None]


def _last_position(model: nn.Module, inputs: Inputs) -> Tensor:
    trimmed, lengths = _trimmed(inputs)
    hidden = model(**trimmed, use_cache=False).last_hidden_state
    return hidden[torch.arange(len(lengths), device=hidden.device), lengths - 1].float()


def _trimmed(inputs: Inputs) -> tuple[dict[str, Tensor], Tensor]:
    """A batch without the columns that are padding in every row, and the rows' lengths."""
    lengths = inputs["attention_mask"].sum(dim=1)
    longest = int(lengths.max())
    return {name: tensor[:, :longest] for name, tensor in inputs.items()}, lengths
