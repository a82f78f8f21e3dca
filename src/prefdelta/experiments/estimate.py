"""What a recipe will cost, told before anything is loaded and without touching the network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from prefdelta.core.model_files import local_folder
from prefdelta.core.models import linear_dimensions, model_shape, parameter_count
from prefdelta.experiments.unit import Unit, Work
from prefdelta.recipe import Lora, ModelRef, Training
from prefdelta.training.objectives import loss_of

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


@dataclass(frozen=True)
class Size:
    """A model's size.

    Attributes:
        parameters: how many it has.
        dimensions: Σ (d_in + d_out) over its linear layers but the head: a LoRA's numbers per rank.
        layers: how many follow one another.
        width: of its hidden states.
        cache: bytes of keys and values that it keeps of a token, in 16 bits.
        guessed: whether all this is from its name only.
    """

    parameters: int
    dimensions: int
    layers: int
    width: int
    cache: int
    guessed: bool


def model_size(ref: ModelRef) -> Size | None:
    """A model's size from its files or, for a Hub id, from the "8B" in its name; ``None`` if neither tells."""
    if ref.format == "huggingface" and local_folder(ref) is not None:
        shape = model_shape(ref)
        cache = 4 * shape.layers * shape.kept
        return Size(parameter_count(ref), linear_dimensions(ref), shape.layers, shape.width, cache, guessed=False)
    named = re.search(r"(\d+(?:\.\d+)?)\s*([bBmMK])(?![a-zA-Z])", ref.path.rsplit("/", 1)[-1])
    if named is None:
        return None
    # A small k in a name is a length of context, as in "4k".
    parameters = float(named[1]) * {"b": 1e9, "m": 1e6, "k": 1e3}[named[2].lower()]
    # Depth and width both grow like the cube root of the size; the factors are Qwen3-8B's (36 layers, q/o 4096x4096,
    # k/v 1024x4096, MLP 12288x4096: dimensions 2.73e6 and a cache of 147,456 bytes at 8.19e9 parameters).
    side = (parameters / 8.19e9) ** (1 / 3)
    return Size(
        int(parameters),
        int(2.73e6 * side**2),
        max(1, round(36 * side)),
        max(1, round(4096 * side)),
        int(147_456 * side**2),
        guessed=True,
    )


def weight_bytes(ref: ModelRef, size: Size) -> int:
    """What a model's weights take in memory, and about on disk."""
    return size.parameters * _BYTES[ref.dtype]


def lora_bytes(student: ModelRef, lora: Lora) -> int:
    """Roughly how many bytes an adapter takes on disk (fp32 factors, all linear layers)."""
    size = model_size(student)
    return 4 * lora.r * size.dimensions if size else 0


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes held while training one adapter, or several together.

    Attributes:
        weights: of the base.
        adapter: LoRA's weights, gradients and two Adam moments in fp32: 16 r Σ (d_in + d_out) for each adapter.
        activations: of a micro-batch whose rows are all ``max_length`` long.
    """

    weights: int
    adapter: int
    activations: int

    @property
    def all(self) -> int:
        """Their sum."""
        return self.weights + self.adapter + self.activations


def training_memory(student: ModelRef, training: Training, adapters: int = 1) -> TrainingMemory | None:
    """What a training of so many adapters holds at most; ``None`` where the student's size is unknown.

    A token leaves 6 bytes in memory for each input and output of a linear layer with LoRA, 8 with LoRA's dropout, as
    counted in the graphs of Qwen3-8B's and Llama-3-8B's shapes in 16 bits (5.6 to 6.0 and 7.5 to 8.0): the layer's
    input again in LoRA's fp32, norms, gates and attention. With checkpoints that is of one layer at a time, beside the
    hidden states between the layers. The logits of a chunk come on top, 3 x 128 MiB.
    """
    size = model_size(student)
    if size is None:
        return None
    tokens = training.micro_batch_size * len(loss_of(training).names) * training.max_length
    layers = tokens * size.dimensions * (8 if training.lora.dropout else 6)
    if training.gradient_checkpointing:
        layers = layers // size.layers + tokens * size.layers * size.width * _BYTES[student.dtype]
    weights = size.parameters // 2 if training.quantization else weight_bytes(student, size)
    return TrainingMemory(weights, 16 * adapters * training.lora.r * size.dimensions, layers + 3 * 2**27)


def totals(units: Sequence[Unit]) -> dict[str, tuple[int, Work]]:
    """Per stage: how many units, and their work in all."""
    counted: dict[str, tuple[int, Work]] = {}
    for unit in units:
        number, work = counted.get(unit.stage, (0, Work()))
        counted[unit.stage] = number + 1, work + unit.work
    return counted
