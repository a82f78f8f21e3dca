"""Manifests: what a folder of ours holds, with hashes, and what of it is damaged or somebody else's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import file_digest, write_json
from prefdelta.core.invocation import command
from prefdelta.core.records import digest
from prefdelta.core.regular import regular

MANIFEST = "manifest.json"
SCHEMA = 2
"""Of manifests and run directories. 1 knew no schema."""

ROWS = ".kept-rows"
"""Ending of files with resumable rows; no finished folder holds any. Nobody else's files end so."""

KEY = ".key"
"""The file in a working folder that says what is made there; no finished folder holds it."""

_LIBRARIES = ("numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")


def seal(working: Path, about: Mapping[str, Any]) -> str:
    """Write the manifest of a finished working folder; returns the hash of its content."""
    finished = [name for name in files_in(working) if name not in (KEY, MANIFEST) and not name.endswith(ROWS)]
    files = {name: file_digest(working / name) for name in finished}
    content = digest(files)
    sizes = {name: (working / name).stat().st_size for name in files}
    told = {"schema": SCHEMA, **about, "content": content, "files": files, "bytes": sizes}
    write_json(working / MANIFEST, {**told, "digest": digest(told)})
    for kept in working.rglob(f"*{ROWS}"):
        kept.unlink()  # last: a disk that is full until here costs nothing that was kept
    return content


def asked_by() -> dict[str, Any]:
    """The entry of a manifest that tells the command; empty where the output was not asked for by one of its own."""
    return {"command": list(words)} if (words := command()) else {}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder of ours; ``None`` if it has none, or one that is not as prefdelta wrote it."""
    try:
        return parse_manifest(regular(folder / MANIFEST).read_bytes())
    except OSError:
        return None


def parse_manifest(text: bytes) -> dict[str, Any] | None:
    """The manifest that a file holds; ``None`` if it is not as prefdelta wrote it."""
    try:
        manifest = json.loads(text.decode("utf-8"))
        told = {name: entry for name, entry in dict(manifest).items() if name != "digest"}
        whole = manifest["content"] == digest(manifest["files"])
        older = manifest.keys().isdisjoint(("schema", "bytes", "digest"))
        return dict(manifest) if whole and (older or manifest["digest"] == digest(told)) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def foreign_files(folder: Path) -> list[str]:
    """The files in a folder that prefdelta did not write: those that its manifest does not list, or all."""
    manifest = read_manifest(folder)
    known = {MANIFEST, *manifest["files"]} if manifest else set()
    return [name for name in files_in(folder) if name not in known]


def damage(folder: Path) -> list[str]:
    """What of a folder of ours is not as it was written, one sentence for each file; empty if it is whole.

    Reads every file once. Files that the manifest does not list are :func:`foreign_files`.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return [f"{folder / MANIFEST} is missing or damaged"]
    found, sizes = [], manifest.get("bytes", {})
    for name, written in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != sizes.get(name, size):
                found.append(f"{path} has {size} bytes instead of {sizes[name]}")
            elif file_digest(path) != written:
                found.append(f"{path} was changed after it was written")
        except FileNotFoundError:
            found.append(f"{path} is missing")
        except OSError as error:
            found.append(f"{path} cannot be read ({error.strerror})")
    return found


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide numbers."""
    return {name: metadata.version(name) for name in ("prefdelta", *_LIBRARIES)}


def check_as_written(path: Path) -> None:
    """Refuse a file of ours that is not as it was written. Whatever no manifest lists passes.

    Raises:
        PrefdeltaError: its content is not the one that the manifest of its folder, or of one above, tells.
    """
    place = path.resolve()
    for folder in place.parents:
        manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
        written = manifest and manifest["files"].get(str(place.relative_to(folder)))
        if written and file_digest(place) != written:
            raise PrefdeltaError(
                f"{path} was changed after it was written; make it again, or remove {folder / MANIFEST} if the change "
                "was meant."
            )


def files_in(folder: Path) -> list[str]:
    """All that lies in a folder, at any depth, but folders; links are not followed."""
    return sorted(
        os.path.relpath(os.path.join(place, name), folder)
        for place, folders, names in os.walk(folder)
        for name in [*names, *(inner for inner in folders if os.path.islink(os.path.join(place, inner)))]
    )
