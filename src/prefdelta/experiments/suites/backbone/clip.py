"""Zero-shot heads by CLIP's text encoder: the weight of a class is the embedding of a sentence about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import local_folder
from prefdelta.core.models import default_device
from prefdelta.experiments.suites.backbone.encoder import Head
from prefdelta.recipe.suite import ClipBackbone


def write_text_heads(folder: Path, backbone: ClipBackbone, texts: Mapping[str, Sequence[str]]) -> None:
    """Sentences per task, one per class -> ``TASK.safetensors`` each, with rows of unit length.

    Raises:
        PrefdeltaError: the model cannot be found or read.
    """
    where, revision = local_folder(backbone.model) or backbone.model.path, backbone.model.revision
    try:
        model = CLIPModel.from_pretrained(where, revision=revision, dtype=torch.float32).to(default_device()).eval()
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision)
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"cannot load the backbone {backbone.model.path!r}: {error}") from error
    scale = float(model.logit_scale.detach().exp()) if backbone.logit_scale else 1.0
    for task, sentences in texts.items():
        Head(_embedded(model, tokenizer, sentences), scale=scale).write(folder / f"{task}.safetensors")


@torch.no_grad()
def _embedded(model: CLIPModel, tokenizer: AutoTokenizer, sentences: Sequence[str]) -> Tensor:
    parts = []
    for begin in range(0, len(sentences), 256):
        batch = tokenizer(list(sentences[begin : begin + 256]), padding=True, truncation=True, return_tensors="pt")
        found = model.get_text_features(**batch.to(model.device))
        # Older releases give the embeddings themselves.
        embeddings = found if isinstance(found, Tensor) else found.pooler_output
        parts.append(functional.normalize(embeddings, dim=-1).cpu())
    return torch.cat(parts)
