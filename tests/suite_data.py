"""A data root of tiny pictures and sentences, and suite recipes that read it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 220)}


def picture(colour: str, seed: int, *, bright: bool) -> bytes:
    """An 8×8 PNG of one noisy colour, brighter on its left or on its right half."""
    generator = np.random.default_rng(seed)
    pixels = np.asarray(COLOURS[colour], float) * np.ones((8, 8, 1)) * 0.6
    half = slice(0, 4) if bright else slice(4, 8)
    pixels[:, half] *= 1.6
    pixels += generator.normal(0, 12, (8, 8, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_pictures(path: Path, *, by: str, count: int = 60) -> None:
    """A ``split-folders`` archive: classes are colours, or sides."""
    with tarfile.open(path, "w:gz") as archive:
        for number in range(count):
            colour, bright = list(COLOURS)[number % 3], number % 2 == 0
            label = colour if by == "colour" else ("left" if bright else "right")
            part = "test" if number % 5 == 0 else "train"
            content = picture(colour, number, bright=bright)
            member = tarfile.TarInfo(f"{part}/{label}/{number:03d}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_sentences(path: Path, *, negate: bool, count: int = 60) -> None:
    """Sentence pairs whose label says whether the colours agree, or whether there is a negation."""
    colours = list(COLOURS)
    with path.open("w", encoding="utf-8") as handle:
        for number in range(count):
            first, second = colours[number % 3], colours[(number * number) % 3]
            no = "not " if number % 2 else ""
            label = ("no" if number % 2 else "yes") if negate else ("same" if first == second else "other")
            row = {"premise": f"The ball {number} is {first}.", "hypothesis": f"It is {no}{second}.", "label": label}
            handle.write(json.dumps(row) + "\n")


def write_root(folder: Path) -> Path:
    """Everything."""
    write_pictures(folder / "colours.tar.gz", by="colour")
    write_pictures(folder / "sides.tar.gz", by="side")
    write_pictures(folder / "more.tar.gz", by="colour", count=45)
    write_sentences(folder / "colours.jsonl", negate=False)
    write_sentences(folder / "negations.jsonl", negate=True)
    return folder


OPTIMISATION = {"steps": 6, "batch_size": 8, "checkpoint_steps": 2}
LORA = {"r": 2, "alpha": 4, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}
METHODS: list[dict[str, Any]] = [
    {"name": "linear", "label": "task-arithmetic", "scales": [0.5, 1.0]},
    {"name": "ties", "options": {"density": [0.2, 0.5]}},
    {"learn": "tara-b", "learning": {"steps": 3, "checkpoint_steps": 1}, "scales": [1.0, 1.5],
     "batch_size": 4},
]  # fmt: skip


def image_task(name: str, file: str) -> dict[str, Any]:
    """A task of pictures."""
    return {
        "name": name,
        "source": {"format": "split-folders", "files": [file]},
        "limits": {"pretrain": 20, "train": 30, "validation": 8, "test": 9},
    }


def image_suite(root: Path) -> dict[str, Any]:
    """A suite of three tasks over a tiny vision transformer."""
    return {
        "kind": "suite",
        "name": "tiny-images",
        "data": str(root),
        "seeds": [0, 1],
        "budget": 2,
        "backbone": {"type": "vit", "image_size": 8, "patch": 4, "hidden": 16, "layers": 1, "heads": 2, "mlp": 16,
                     "training": OPTIMISATION},
        "tasks": [image_task("colours", "colours.tar.gz"), image_task("sides", "sides.tar.gz"),
                  image_task("more", "more.tar.gz")],
        "adapter": {"lora": LORA, "training": {**OPTIMISATION, "learning_rate": 1e-2}},
        "methods": METHODS,
        "unseen": ["more"],
        "preference": {"method": "tara-b", "task": "sides", "weights": [0.1, 0.9]},
    }  # fmt: skip


def sentence_task(name: str, file: str) -> dict[str, Any]:
    """A task of sentence pairs."""
    return {
        "name": name,
        "source": {"format": "json-lines", "files": [file]},
        "limits": {"pretrain": 30, "train": 30, "validation": 8, "test": 9},
    }


def sentence_suite(root: Path) -> dict[str, Any]:
    """A suite of two tasks over a tiny text encoder."""
    return {
        "kind": "suite",
        "name": "tiny-sentences",
        "data": str(root),
        "budget": 2,
        "backbone": {"type": "bert", "vocabulary": 80, "max_length": 24, "hidden": 16, "layers": 1, "heads": 2,
                     "mlp": 16, "training": OPTIMISATION},
        "tasks": [sentence_task("colours", "colours.jsonl"), sentence_task("negations", "negations.jsonl")],
        "adapter": {"lora": {**LORA, "targets": ["query", "key", "value", "attention.output.dense"]},
                    "training": {**OPTIMISATION, "learning_rate": 1e-2}},
        "methods": METHODS,
    }  # fmt: skip
