"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefdelta.errors import PrefdeltaError


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a hidden sibling of ``target`` to write in; on success it becomes ``target``, on any error it is removed.

    Raises:
        PrefdeltaError: ``target`` is a file, or a non-empty folder and ``overwrite`` is false, or the disk refuses.
    """
    if target.exists() and not target.is_dir():
        raise PrefdeltaError(f"{target} is a file; give the name of a folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise PrefdeltaError(f"{target} exists and is not empty; choose another folder or allow overwriting.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise PrefdeltaError(f"cannot write beside {target}: {error.strerror}.") from error
    try:
        yield staging
        _give_ordinary_permissions(staging)
        _sync(staging)
        _replace(staging, target)
    except OSError as error:
        raise PrefdeltaError(f"cannot write {target}: {error.strerror}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    # A folder cannot be exchanged in one step portably: the old one steps aside and comes back if the rename fails.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(aside)
    try:
        staging.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside)
    _sync_folder(target.parent)


def _give_ordinary_permissions(folder: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
