"""What a recipe will cost, told before anything is loaded and without touching the network."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from prefdelta.models import linear_dimensions, local_folder, parameter_count
from prefdelta.pipeline.unit import Unit, Work
from prefdelta.recipe import Lora, ModelRef, Recipe

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


@dataclass(frozen=True)
class Size:
    """A model's size: parameters, and Σ(d_in + d_out) over its linear layers. ``guessed``: from its name only."""

    parameters: int
    dimensions: int
    guessed: bool


def model_size(ref: ModelRef) -> Size | None:
    """A model's size from its files or, for a Hub id, from the "8B" in its name; ``None`` if neither tells."""
    if ref.format == "huggingface" and local_folder(ref) is not None:
        return Size(parameter_count(ref), linear_dimensions(ref), guessed=False)
    named = re.search(r"(\d+(?:\.\d+)?)\s*([bBmMK])(?![a-zA-Z])", ref.path.rsplit("/", 1)[-1])
    if named is None:
        return None
    # A small k in a name is a length of context, as in "4k".
    parameters = float(named[1]) * {"b": 1e9, "m": 1e6, "k": 1e3}[named[2].lower()]
    # Depth and width both grow like the cube root of the size; the factor is Qwen3-8B's
    # (36 layers, q/o 4096x4096, k/v 1024x4096, MLP 12288x4096: 2.73e6 at 8.19e9 parameters).
    return Size(int(parameters), int(0.672 * parameters ** (2 / 3)), guessed=True)


def lora_bytes(student: ModelRef, lora: Lora) -> int:
    """Roughly how many bytes an adapter takes on disk (fp32 factors, all linear layers)."""
    size = model_size(student)
    return 4 * lora.r * size.dimensions if size else 0


def training_memory(student: ModelRef, lora: Lora) -> int | None:
    """Bytes held while training one adapter: base weights, and LoRA weights, gradients and two Adam moments in fp32.

    Activations come on top; they depend on batch and length.
    """
    size = model_size(student)
    if size is None:
        return None
    return size.parameters * _BYTES[student.dtype] + 16 * lora.r * size.dimensions


def totals(units: list[Unit]) -> dict[str, tuple[int, Work]]:
    """Per stage: how many units, and their work in all."""
    counted: dict[str, list[Work]] = defaultdict(list)
    for unit in units:
        counted[unit.stage].append(unit.work)
    return {
        stage: (
            len(works),
            Work(
                samples=sum(work.samples for work in works),
                scores=sum(work.scores for work in works),
                steps=sum(work.steps for work in works),
                disk=sum(work.disk for work in works),
            ),
        )
        for stage, works in counted.items()
    }


def sampling_models(recipe: Recipe) -> list[ModelRef]:
    """Every model the recipe loads, the student first."""
    models = [recipe.student]
    for domain in recipe.domains.values():
        for delta in domain.deltas:
            models += [source for source in (delta.weak, delta.weaker) if isinstance(source, ModelRef)]
    return list(dict.fromkeys(models))
