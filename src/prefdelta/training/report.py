"""What a training did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingReport:
    """Written as ``training.json`` beside the adapter; holds no times, so that equal trainings have equal bytes.

    Attributes:
        objective: name of the loss, as in ``OBJECTIVES``.
        options: its options, all of them.
        base: the student, as the recipe names it.
        base_fingerprint: hash of its weights and tokenizer.
        adapter_fingerprint: hash of the adapter that was trained further, if there was one.
        seed: of data order and dropout.
        init_seed: of LoRA's ``A``.
        targets: modules with LoRA layers.
        trainable_parameters: how many numbers were trained.
        examples: how many were given.
        rows: how many were trained on.
        dropped: why the others were not, see :class:`prefdelta.training.data.Rows`.
        truncated: responses cut at ``max_length``.
        steps: optimiser steps.
        first: the log's first line, before any update.
        last: the log's last line.
    """

    objective: str
    options: Mapping[str, Any]
    base: str
    base_fingerprint: str
    adapter_fingerprint: str | None
    seed: int
    init_seed: int
    targets: tuple[str, ...]
    trainable_parameters: int
    examples: int
    rows: int
    dropped: Mapping[str, int]
    truncated: int
    steps: int
    first: Mapping[str, float]
    last: Mapping[str, float]
