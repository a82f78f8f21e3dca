"""Checkpoints that a killed training continues from."""

from __future__ import annotations

import shutil
from pathlib import Path

from prefdelta.store import replace_text

_MARKER = "complete"


def complete(checkpoint: Path, key: str) -> None:
    """Say that everything in ``checkpoint`` is written, and that it belongs to the training ``key``."""
    replace_text(checkpoint / _MARKER, key)


def latest(folder: Path, key: str) -> Path | None:
    """The newest complete checkpoint of the training ``key`` in ``folder``.

    All others there are removed: half-written ones, which a kill left behind, and those of another training.
    """
    usable: dict[int, Path] = {}
    for path in sorted(folder.glob("checkpoint-*")):
        marker = path / _MARKER
        if marker.is_file() and marker.read_text(encoding="utf-8") == key:
            usable[int(path.name.removeprefix("checkpoint-"))] = path
        else:
            shutil.rmtree(path)
    return usable[max(usable)] if usable else None
