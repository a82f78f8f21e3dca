"""Short names for adapter folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def tell_apart(folders: Sequence[Path]) -> list[str]:
    """The shortest tails of the folders' paths that tell different folders apart, joined by slashes.

    A report carries these and never a whole path of the machine that made it.
    """
    paths = [folder.resolve() for folder in folders]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]
