"""The command that made an output, to be typed again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from prefdelta.core.manifests import read_manifest


def command_of(root: Path) -> str:
    """The command line that made a folder, as its manifest tells it; empty where it does not."""
    words = (read_manifest(root) or {}).get("command")
    return command_line([*words, "-o", root.resolve().name]) if words else ""


def command_line(words: Sequence[str]) -> str:
    """The words of a command of ours as one line for a shell."""
    return shlex.join(["prefdelta", *words])
