"""GPU hours and money of a plan's stages, from what its units ask of their models and what is assumed of a GPU.

With P parameters, W bytes of weights and K bytes of keys and values a token, a GPU of F flop/s and B bytes/s of which
the shares t (training), r (reading) and w (writing) are reached:

    a row of n tokens that passes p times    2 P n p / (t F), or 2 P n p / (r F) where nothing is trained
    reading a prompt of n tokens             2 P n / (r F)
    one token of each of m answers           max((W + m c K) / (w B), 2 P m / (r F)), c tokens held of each

vLLM keeps as many answers going as its cache has room for, 256 at most. With transformers a batch goes on until its
longest answer ends, taken to be twice as long as the mean, and no step takes less than ``step``: 30 ms, which Python
needs to start the kernels of some dozen layers. A model that one GPU does not hold is spread over several, at no loss.
Every unit that loads a model takes ``start`` for it: a minute. Pairs, merges and selections, which need no GPU, are not
counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefdelta.experiments.estimate import Size, model_size, weight_bytes
from prefdelta.experiments.gpus import Gpu
from prefdelta.experiments.load import Load, Passed, Sampled
from prefdelta.experiments.unit import Unit

_AT_ONCE = 256
_CACHE = 0.9
"""Share of a GPU's memory that an engine takes for weights and cache."""
_LONGEST = 2.0


@dataclass(frozen=True)
class Hours:
    """GPU hours.

    Attributes:
        likely: where answers take the share of their limits that is assumed.
        most: where every answer goes on to its limit.
        longest: likely, of the longest unit.
    """

    likely: float = 0.0
    most: float = 0.0
    longest: float = 0.0


def stage_hours(units: Sequence[Unit], gpu: Gpu) -> dict[str, Hours]:
    """Stage -> its GPU hours, in the order of the units; stages that ask nothing of a model are left out.

    Models whose size nothing tells count only for their start.
    """
    found: dict[str, Hours] = {}
    for unit in (part for whole in units for part in whole.shards or (whole,)):
        if not unit.work.load:
            continue
        likely, most = (
            (gpu.start + sum(seconds(load, gpu, filled) for load in unit.work.load)) / 3600
            for filled in (gpu.filled, 1.0)
        )
        so_far = found.get(unit.stage, Hours())
        found[unit.stage] = Hours(so_far.likely + likely, so_far.most + most, max(so_far.longest, likely))
    return found


def seconds(load: Load, gpu: Gpu, filled: float) -> float:
    """GPU seconds of one load, where answers take the share ``filled`` of their limits; 0 for an unknown model."""
    size = model_size(load.model)
    if size is None:
        return 0.0
    if isinstance(load, Passed):
        share = gpu.training if load.trained else gpu.reading
        tokens = load.rows * load.text.length(filled, load.longest) * load.passes
        return 2 * size.parameters * tokens / (share * gpu.tflops * 1e12)
    return _reading(load, size, gpu, filled) + _writing(load, size, gpu, filled)


def gpus_needed(held: int, gpu: Gpu) -> int:
    """How many GPUs hold so many bytes."""
    return max(1, math.ceil(held / (_CACHE * gpu.memory * 1e9)))


def _reading(load: Sampled, size: Size, gpu: Gpu, filled: float) -> float:
    return 2 * size.parameters * load.answers * load.text.read(filled) / (gpu.reading * gpu.tflops * 1e12)


def _writing(load: Sampled, size: Size, gpu: Gpu, filled: float) -> float:
    weights = weight_bytes(load.model, size)
    mean = filled * load.text.written
    held = (load.text.read(filled) + mean / 2) * size.cache
    if load.model.engine == "vllm":
        count = gpus_needed(weights, gpu)
        room = (_CACHE * gpu.memory * 1e9 * count - weights) / held
        at_once = min(max(1.0, room), _AT_ONCE, load.answers)
        steps = load.answers * mean / at_once
        least = 0.0
    else:
        at_once = min(load.batch, load.answers)
        steps = math.ceil(load.answers / load.batch) * min(load.text.written, _LONGEST * mean)
        least = gpu.step
    moved = (weights + at_once * held) / (gpu.writing * gpu.bandwidth * 1e12)
    computed = 2 * size.parameters * at_once / (gpu.reading * gpu.tflops * 1e12)
    return steps * max(moved, computed, least)
