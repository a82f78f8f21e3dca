"""A small vision transformer, pretrained from scratch on pooled training images with one head over all classes.

It stands in for CLIP: the class vectors of the pretraining head play the part of CLIP's text embeddings. Features and
class vectors have unit length, and a logit is their cosine over a temperature. Classes of the same name in several
tasks share one vector, as they would share a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTModel

from prefdelta.core.files import write_json
from prefdelta.experiments.identity import seed_from
from prefdelta.experiments.suites.data.task import Examples
from prefdelta.experiments.suites.seeded_training import train
from prefdelta.recipe.suite import VitBackbone
from prefdelta.training.loop import Progress

MODEL = "model"
CLASS_VECTORS = "class_vectors.safetensors"
CLASS_NAMES = "class_names.json"
_SHIFT = 3
MEAN, STD = 0.5, 0.5


def pool_of(tasks: Sequence[tuple[Sequence[str], Examples]]) -> tuple[Examples, tuple[str, ...]]:
    """Classes and examples of each task -> all together; classes of one name are one class."""
    classes = tuple(sorted({name for names, _ in tasks for name in names}))
    place = {name: number for number, name in enumerate(classes)}
    images = [examples.inputs["pixel_values"] for _, examples in tasks]
    labels = [torch.tensor([place[name] for name in names])[examples.labels] for names, examples in tasks]
    return Examples({"pixel_values": torch.cat(images)}, torch.cat(labels)), classes


def pretrain_vit(
    pool: Examples,
    classes: Sequence[str],
    settings: VitBackbone,
    folder: Path,
    *,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Train the backbone and its class vectors; writes ``model/``, the class vectors and the log of the training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_from(seed, "vit"))
        model = build_vit(settings)
        vectors = nn.Parameter(torch.randn(len(classes), settings.hidden) / settings.hidden**0.5)
    model.train()

    def loss_at(step: int) -> Tensor:
        batch = pool.at(torch.randint(len(pool), (settings.training.batch_size,)))
        features = vit_features(model, {"pixel_values": _shifted(batch.inputs["pixel_values"])})
        logits = features @ functional.normalize(vectors, dim=-1).T / settings.temperature
        return functional.cross_entropy(logits, batch.labels, label_smoothing=settings.label_smoothing)

    parameters = [*model.parameters(), vectors]
    train(parameters, loss_at, settings.training, folder=folder, seed=seed, progress=progress)
    model.eval().save_pretrained(folder / MODEL)
    (folder / MODEL / "model.safetensors").chmod(0o644)
    unit = functional.normalize(vectors.detach(), dim=-1).contiguous()
    (folder / CLASS_VECTORS).write_bytes(save({"vectors": unit}))
    write_json(folder / CLASS_NAMES, list(classes))


def build_vit(settings: VitBackbone) -> ViTModel:
    """An untrained model; its weights come from torch's global generator."""
    return ViTModel(
        ViTConfig(
            hidden_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.mlp,
            image_size=settings.image_size,
            patch_size=settings.patch,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )


def vit_features(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """uint8 images, as floats in [-1, 1] -> ``(n, hidden)`` of unit length."""
    hidden = model(pixel_values=(inputs["pixel_values"].float() / 255 - MEAN) / STD).last_hidden_state
    return functional.normalize(hidden[:, 0], dim=-1)


def _shifted(images: Tensor) -> Tensor:
    """Each image moved by its own random offset of up to a few pixels, the border repeated."""
    count, _, size, _ = images.shape
    offsets = torch.randint(-_SHIFT, _SHIFT + 1, (2, count, 1))
    rows, columns = (torch.arange(size) + offsets).clamp(0, size - 1)
    moved = images[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)
