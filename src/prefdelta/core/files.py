"""Files written in one step, readable JSON, and content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefdelta.core.records import to_json
from prefdelta.core.regular import regular


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with regular(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys, and see it on disk before returning."""
    replace_text(path, readable_json(value))


def readable_json(value: Any) -> str:
    """JSON with sorted keys, one entry a line."""
    return json.dumps(json.loads(to_json(value)), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def replace_text(path: Path, text: str) -> None:
    """Replace a file's content in one step: a reader, or a kill, sees the old text or the new, never a part."""
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, content: bytes) -> None:
    """As :func:`replace_text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.prefdelta-tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def concatenate(path: Path, parts: Iterable[Path]) -> None:
    """Write a file that holds the content of others, one after the other."""
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as handle:
                shutil.copyfileobj(handle, whole)


def exists(path: str) -> bool:
    """Whether a file or folder is there; no name is too long, and no ``~user`` unknown, to be asked about."""
    try:
        return expanded(path).exists()
    except OSError:
        return False


def expanded(path: Path | str) -> Path:
    """A path whose ``~`` is the home folder; that of a user whom nobody knows stays as it is, and leads nowhere."""
    return Path(os.path.expanduser(path))


def cache_folder() -> Path:
    """Where models and copies of runs are kept: ``PREFDELTA_CACHE``, else ``prefdelta`` in ``XDG_CACHE_HOME`` or
    ``~/.cache``."""
    if own := os.environ.get("PREFDELTA_CACHE"):
        return expanded(own)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "prefdelta"
