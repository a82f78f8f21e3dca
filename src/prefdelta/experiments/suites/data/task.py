"""A task's splits on disk, and as tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError, told_of
from prefdelta.core.files import write_json
from prefdelta.core.jsonl import read_objects
from prefdelta.core.records import to_json
from prefdelta.experiments.suites.data.images import image_array
from prefdelta.experiments.suites.data.rows import Overlay, Pair, Row

CLASSES = "classes.json"
_IMAGES = "images.safetensors"


@dataclass(frozen=True)
class Examples:
    """Model inputs by name, each ``(N, ...)``, and labels ``(N,)`` int64."""

    inputs: Mapping[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, places: Tensor | Sequence[int], device: torch.device | None = None) -> Examples:
        """The examples at these places, in this order; moved to a device, if one is given."""
        index = torch.as_tensor(places)
        inputs = {name: tensor[index].to(device) for name, tensor in self.inputs.items()}
        return Examples(inputs, self.labels[index].to(device))


def write_images(folder: Path, splits: Mapping[str, Sequence[Row]], size: int, *, crop: bool = False) -> None:
    """Rows of images -> one file of ``(N, 3, size, size)`` uint8 tensors, and the names of the classes.

    See :func:`prefdelta.experiments.suites.data.images.image_array` for ``crop``.
    """
    numbers = _write_classes(folder, splits)
    tensors: dict[str, Tensor] = {}
    for name, rows in splits.items():
        pixels = []
        for row in rows:
            with told_of(row.group):
                pixels.append(image_array(cast("bytes | Overlay", row.content), size, crop=crop))
        stacked = np.stack(pixels) if pixels else np.zeros((0, 3, size, size), np.uint8)
        tensors[f"{name}.pixel_values"] = torch.from_numpy(np.ascontiguousarray(stacked))
        tensors[f"{name}.labels"] = torch.tensor([numbers[row.label] for row in rows], dtype=torch.int64)
    (folder / _IMAGES).write_bytes(save(tensors))


def read_images(folder: Path, split: str) -> Examples:
    """One split of what :func:`write_images` wrote."""
    with safe_open(folder / _IMAGES, framework="pt") as handle:
        return Examples(
            {"pixel_values": handle.get_tensor(f"{split}.pixel_values")}, handle.get_tensor(f"{split}.labels")
        )


def write_sentences(folder: Path, splits: Mapping[str, Sequence[Row]]) -> None:
    """Rows of sentence pairs -> one JSON Lines file per split, and the names of the classes."""
    numbers = _write_classes(folder, splits)
    for name, rows in splits.items():
        lines = [to_json({"pair": row.content, "label": numbers[row.label]}) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def read_sentences(folder: Path, split: str) -> tuple[list[Pair], list[int]]:
    """One split of what :func:`write_sentences` wrote: pairs and their labels, before any tokenizer."""
    records = [record for _, record in read_objects(folder / f"{split}.jsonl")]
    return [(record["pair"][0], record["pair"][1]) for record in records], [record["label"] for record in records]


def _write_classes(folder: Path, splits: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    names = sorted({row.label for rows in splits.values() for row in rows})
    if len(names) < 2:
        raise PrefdeltaError(f"a task needs at least two classes, found {names}.")
    write_json(folder / CLASSES, names)
    return {name: number for number, name in enumerate(names)}


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names of a task's classes."""
    return tuple(json.loads((folder / CLASSES).read_text(encoding="utf-8")))
