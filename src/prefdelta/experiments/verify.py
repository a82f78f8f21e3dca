"""Verifying a run directory or one artifact: every file against the hash in its manifest, and the lineage of each."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import MANIFEST, damage, foreign_files, read_manifest
from prefdelta.core.shard import SHARDS
from prefdelta.core.store import JOURNAL
from prefdelta.experiments.published import RUN, published_damage


def verify(folder: Path, progress: Callable[[int, int], None]) -> tuple[int, list[str]]:
    """Read every file of a run, or of an artifact and all that it was made from, and compare it to what was written.

    Args:
        folder: a run directory, an artifact in one, or the output of a single command.
        progress: called with (folders read, folders in all).

    Returns:
        How many folders were read, and a line for each file that is damaged, missing or not prefdelta's.

    Raises:
        PrefdeltaError: nothing in ``folder`` was written by prefdelta.
    """
    root = next((place for place in (folder, *Path(os.path.realpath(folder)).parents) if (place / RUN).is_file()), None)
    found = list(_run_damage(folder)) if root == folder else []
    folders = artifact_folders(folder)
    if root is not None and root != folder:
        folders = _lineage(folders, root)
    if not folders and root is None:
        raise PrefdeltaError(f"{folder} holds nothing that prefdelta wrote: no {RUN} and no {MANIFEST}.")
    for number, place in enumerate(folders):
        found += damage(place)
        manifest = read_manifest(place)
        if manifest is not None:
            found += [f"{place / name} was not written by prefdelta" for name in foreign_files(place)]
            if root is not None:
                found += _input_damage(place, manifest, root)
        progress(number + 1, len(folders))
    return len(folders), list(dict.fromkeys(found))


def verify_address(url: str, progress: Callable[[int, int], None]) -> tuple[int, list[str]]:
    """:func:`verify` of a run on a store, of which every byte is fetched for it.

    Raises:
        PrefdeltaError: nothing is there, or the store cannot be read.
    """
    from prefdelta.core.remote.store import RemoteStore  # here, as most runs need no file system but the disk's

    store = RemoteStore(url)
    with tempfile.TemporaryDirectory(prefix="prefdelta-verify-") as name:
        store.download(Path(name))
        count, found = verify(Path(name), progress)
    return count, [line.replace(name, store.shown) for line in found]


def artifact_folders(root: Path) -> list[Path]:
    """The folders in ``root`` with a manifest, at any depth; not those inside of one, which lists their files."""
    found = []
    for place, folders, names in os.walk(root):
        if MANIFEST in names:
            found.append(Path(place))
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return found


def _lineage(folders: list[Path], root: Path) -> list[Path]:
    """Folders, and all that they were made from."""
    known = list(folders)
    for place in known:  # which grows as it is walked
        manifest = read_manifest(place) or {}
        for origin in manifest.get("inputs", {}).values():
            if (root / origin["path"]).is_dir() and root / origin["path"] not in known:
                known.append(root / origin["path"])
    return known


def _input_damage(place: Path, manifest: dict[str, Any], root: Path) -> Iterator[str]:
    for label, origin in manifest.get("inputs", {}).items():
        source = root / origin["path"]
        read = read_manifest(source)
        if not source.exists():
            yield f"{source} is missing, from which {place} was made ({label})"
        elif read is not None and read["content"] != origin["content"]:
            yield f"{place} was made from another {source} than the one that is there ({label})"


def _run_damage(root: Path) -> Iterator[str]:
    """What is wrong with the files of a run directory that are no artifacts."""
    yield from published_damage(root)
    built: set[str] = set()
    lines = (root / JOURNAL).read_bytes().split(b"\n") if (root / JOURNAL).is_file() else [b""]
    for number, line in enumerate(lines, 1):
        if line or number < len(lines):
            try:
                entry = json.loads(line)
                if entry["event"] == "built" and not str(entry["artifact"]).startswith(f"{SHARDS}/"):
                    built.add(str(entry["artifact"]))
            except (ValueError, KeyError, TypeError):
                yield f"{root / JOURNAL}, line {number} is damaged"
    for name in sorted(built):
        if not (root / name / MANIFEST).is_file():
            yield f"{root / name / MANIFEST} is missing"
