"""What a reader gives: labelled contents, not yet split and not yet turned into tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefdelta.core.errors import PrefdeltaError

Pair = tuple[str, str]
"""A premise and a hypothesis."""


@dataclass(frozen=True)
class Overlay:
    """An image made of two image files, |above - below|."""

    above: bytes
    below: bytes


@dataclass(frozen=True)
class Row:
    """One labelled example.

    Attributes:
        content: the bytes of an image file, two of them to be laid over one another, or a pair of sentences.
        label: the name of its class.
        group: what must not be torn apart by a split: a photographed track, a drawer, a premise.
        part: the source's own split, where it has one.
    """

    content: bytes | Overlay | Pair
    label: str
    group: str
    part: Literal["train", "validation", "test"] | None = None


def there(path: Path) -> Path:
    """A file of the suite's data.

    Raises:
        PrefdeltaError: it is not there.
    """
    if not path.is_file():
        raise PrefdeltaError(f"the suite's data root has no file {path}.")
    return path
