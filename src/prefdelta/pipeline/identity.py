"""What decides an artifact's content, in a form that does not depend on the machine: names, seeds, hashes of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Imported, ModelRef
from prefdelta.records import digest
from prefdelta.store import file_digest


def source_label(source: ModelRef | Imported) -> str:
    """A folder name for a model or a file of answers: the end of its path."""
    end = source.path.rstrip("/").rsplit("/", 1)[-1].removeprefix("micro:")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", end.removesuffix(".zip").removesuffix(".jsonl"))


def seed_from(*parts: Any) -> int:
    """A seed in [0, 2^31) that depends on all the parts."""
    return int(digest(parts)[:8], 16) % 2**31


def portable(value: Any) -> Any:
    """Plain values without machine paths: an absolute path becomes its last part (its content is hashed apart)."""
    if isinstance(value, BaseModel):
        return portable(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {key: portable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    return value


def path_digest(path: str) -> str:
    """The hash of a file's bytes, or of all files in a folder.

    Raises:
        PrefdeltaError: nothing is there.
    """
    where = Path(path)
    if where.is_file():
        return file_digest(where)
    if where.is_dir():
        return digest(
            {str(file.relative_to(where)): file_digest(file) for file in sorted(where.rglob("*")) if file.is_file()}
        )
    raise PrefdeltaError(f"the recipe names {path}, which does not exist.")
