"""A folder that appears whole or not at all.

While it is being made it lies in a hidden sibling, ``.NAME.partial-…``, which its maker keeps locked. A killed maker
leaves the sibling behind and its lock free, so that the next one for the same target knows to clear it away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from prefdelta.errors import PrefdeltaError

_PARTIAL, _ASIDE = "partial-", "aside-"


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a hidden sibling of ``target`` to write in; on success it becomes ``target``, on any error it is removed.

    What killed runs for the same target left behind is removed first, and an old folder that one had moved aside to
    replace is put back.

    Raises:
        PrefdeltaError: ``target`` is a file, or a non-empty folder and ``overwrite`` is false, or the disk refuses.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(target)
        _check(target, overwrite)
        staging, lock = _locked_sibling(target)
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
        os.close(lock)


def _check(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise PrefdeltaError(f"{target} is a file; give the name of a folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise PrefdeltaError(f"{target} exists and is not empty; choose another folder or allow overwriting.")


def _locked_sibling(target: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.{_PARTIAL}", dir=target.parent))
        with suppress(FileNotFoundError):  # another run took the new folder for a leftover before it was locked
            lock = os.open(folder, os.O_RDONLY)
            if _lock(lock) is not False and folder.is_dir():
                return folder, lock
            os.close(lock)


def _lock(descriptor: int) -> bool | None:
    """Whether this run now holds the lock on an open folder; ``None`` where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _clear_leftovers(target: Path) -> None:
    """Remove what killed runs left beside ``target``; folders of living ones are locked and stay."""
    for aside in _abandoned(target, _ASIDE):
        if target.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(target)  # killed after the old folder had stepped aside, before the new one was in place
    for partial in _abandoned(target, _PARTIAL):
        shutil.rmtree(partial)


def _abandoned(target: Path, kind: str) -> Iterator[Path]:
    for folder in sorted(target.parent.glob(f".{escape(target.name)}.{kind}*")):
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if _lock(descriptor):
                    yield folder
            finally:
                os.close(descriptor)


def _replace(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        _sync_folder(target.parent)
        return
    # A folder cannot be exchanged in one step portably: the old one steps aside and comes back if the rename fails.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.{_ASIDE}", dir=target.parent))
    old = os.open(target, os.O_RDONLY)
    try:
        _lock(old)  # so that no other run mistakes it for an abandoned one
        target.rename(aside)
        try:
            staging.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside)
    finally:
        os.close(old)
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
