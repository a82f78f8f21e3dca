"""Output folders and files: what may be replaced, whole-or-nothing publishing, locks.

Everything that prefdelta writes for a user goes through here. A folder is ours if it carries a ``manifest.json`` that
lists its files; only such a folder, with nothing else in it, is ever replaced. While a folder is being made it lies in
a hidden sibling, ``.NAME.partial``, with the key of what is made in it; the folder that it replaces steps aside as
``.NAME.stale`` and comes back if the run is killed between the two renames.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import replace_bytes
from prefdelta.core.manifests import KEY, MANIFEST, asked_by, files_in, foreign_files, read_manifest, seal
from prefdelta.core.names import list_names

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of a file system that knows none: nothing is held there
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+:")  # what is left of s3:// in a path; one letter is a drive
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNWRITABLE = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


def check_output(target: Path, *, inputs: Collection[Path | str] = (), overwrite: bool = False) -> None:
    """Refuse an output folder in whose place something would be lost.

    Args:
        target: the folder to be made.
        inputs: files and folders that it is made from.
        overwrite: whether a folder of ours may be replaced.

    Raises:
        PrefdeltaError: ``target`` is a link, a file, the current or the home folder or a parent of one, an input or a
            parent of one, in a folder that prefdelta wrote, a folder with files that prefdelta did not write, or one of
            ours without ``overwrite``.
    """
    check_place(target, inputs)
    with _told(target):
        if not target.exists():
            return
        if not target.is_dir():
            raise PrefdeltaError(f"{target} is a file; give the name of a folder.")
        if not any(target.iterdir()):
            return
        foreign = foreign_files(target)
    if MANIFEST in foreign:
        raise PrefdeltaError(
            f"{target / MANIFEST} is damaged or not prefdelta's, so that nothing tells whose the files beside it are; "
            "move the folder elsewhere, or choose another."
        )
    if foreign:
        raise PrefdeltaError(
            f"{target} holds files that prefdelta did not write ({list_names(foreign)}); choose another folder."
        )
    if not overwrite:
        raise PrefdeltaError(f"{target} exists and is not empty; choose another folder or give --overwrite.")


def check_place(target: Path, inputs: Collection[Path | str] = ()) -> None:
    """Refuse an output, folder or file, that is a link, an input, the place where the user stands, or in a folder that
    prefdelta wrote, which would no longer be whole.

    Raises:
        PrefdeltaError: as :func:`check_output`, whatever the output holds; or it is a way up, a ``~`` or an address.
    """
    with _told(target):
        if target.is_symlink():
            raise PrefdeltaError(f"the output {target} is a link; name the place that it points to.")
        place = _real(target)
        for what, folder in (("current folder", Path.cwd()), ("home folder", Path.home().resolve())):
            if place == folder or place in folder.parents:
                raise PrefdeltaError(f"the output {target} is the {what} or a parent of it; name a folder in it.")
        if target.name == "..":
            raise PrefdeltaError(f"the output {target} ends in '..'; name the folder itself.")
        if _SCHEME.fullmatch(target.parts[0] if len(target.parts) > 1 else ""):
            raise PrefdeltaError(f"the output {target} is an address, which only `prefdelta run` takes; name a folder.")
        if target.parts[:1] and target.parts[0].startswith("~"):
            raise PrefdeltaError(
                f"the output {target} begins with '~', which no shell expanded; write the home folder out."
            )
        for parent in place.parents:
            if (parent / MANIFEST).is_file() and read_manifest(parent):
                raise PrefdeltaError(f"the output {target} lies in {parent}, which prefdelta wrote; choose another.")
        for source in filter(os.path.lexists, inputs):
            for known in (_real(source), Path(os.path.abspath(source))):
                if place == known or place in known.parents:
                    raise PrefdeltaError(f"the output {target} would replace the input {source}; choose another.")


def _real(path: Path | str) -> Path:
    """Where a path leads; unlike ``Path.resolve`` it takes links that lead to themselves as they are."""
    return Path(os.path.realpath(path))


def write_output(
    path: Path, content: str | bytes, *, inputs: Collection[Path | str] = (), overwrite: bool = False
) -> None:
    """Write a file that the user named, in one step.

    Raises:
        PrefdeltaError: as :func:`check_file`, or the file cannot be written.
    """
    check_file(path, inputs=inputs, overwrite=overwrite)
    with _told(path, every=True):
        replace_bytes(path, content.encode("utf-8") if isinstance(content, str) else content)


def check_file(path: Path, *, inputs: Collection[Path | str] = (), overwrite: bool = False) -> None:
    """Refuse an output file in whose place something would be lost.

    Raises:
        PrefdeltaError: ``path`` is a folder, a link or an input, in a folder that prefdelta wrote, or is there already
            and ``overwrite`` is false or an input folder holds it.
    """
    check_place(path, inputs)
    with _told(path):
        if path.is_dir():
            raise PrefdeltaError(f"{path} is a folder; give the name of a file.")
        for source in inputs if path.exists() else ():
            if _real(source) in _real(path).parents:
                raise PrefdeltaError(f"the output {path} would replace a part of the input {source}; choose another.")
        if path.exists() and not overwrite:
            raise PrefdeltaError(f"{path} is there already; name another file or give --overwrite.")


@contextmanager
def staged_folder(
    target: Path, *, inputs: Collection[Path | str] = (), overwrite: bool = False, key: str | None = None
) -> Iterator[Path]:
    """Give a hidden sibling of ``target`` to write in; on success it becomes ``target``, on any error it is removed.

    With a ``key``, which says what is made, a sibling with progress stays after an error, and the next call with the
    same key gets it with its content.

    Raises:
        PrefdeltaError: as :func:`check_output`, another process is making ``target``, or the disk refuses.
    """
    check_place(target, inputs)
    with locked(target), _told(target, every=True):
        recover(target)
        open_working(target, key or "", resume=key is not None)
        working = working_folder(target)
        try:
            check_output(target, overwrite=overwrite)
            yield working
            # A folder in one that is being made needs no manifest of its own: that one's will list its files.
            if not any((parent / KEY).is_file() for parent in target.parents):
                seal(working, {**asked_by(), "versions": {"prefdelta": metadata.version("prefdelta")}})
            publish(working, target)
        finally:
            discard_working(target, keep=key is not None)


@contextmanager
def locked(target: Path, lock: Path | None = None) -> Iterator[None]:
    """Hold an output, so that no second process writes it; the lock ends with the process.

    Args:
        target: the output.
        lock: the file to lock, beside the output if left out; it is removed afterwards.

    Raises:
        PrefdeltaError: another process holds it, or nothing can be written there.
    """
    path = lock or _lock(target)
    with _told(target, every=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path, target)
    try:
        yield
    finally:
        held = os.fstat(descriptor)
        if stat.S_ISREG(held.st_mode) and held.st_size == 0:  # else it is no lock of ours
            path.unlink(missing_ok=True)
        os.close(descriptor)


def check_free(target: Path) -> None:
    """Refuse a place where another process is making a folder with :func:`staged_folder`.

    Raises:
        PrefdeltaError: one is.
    """
    path = _lock(target)
    if path.exists():
        with locked(target):
            pass


def _lock(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def _acquire(path: Path, target: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise PrefdeltaError(f"another process is at work in {target}; wait for it or stop it.") from error
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        # A holder that ended just now took its file away: a lock on it would lock nobody out.
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)


def recover(target: Path) -> None:
    """Put back an old folder that a killed run had moved aside, or remove it if the new one is in its place.

    Raises:
        PrefdeltaError: a folder of its name is there that prefdelta did not make.
    """
    stale = _stale(target)
    if os.path.lexists(stale):
        _check_ours(stale, MANIFEST)
        if target.exists():
            _remove(stale)
        else:
            os.replace(stale, target)


def working_folder(target: Path) -> Path:
    """Where a folder lies while it is being made."""
    return target.parent / f".{target.name}.partial"


def open_working(target: Path, key: str, *, resume: bool) -> bool:
    """Make the working folder of ``target`` ready; true if it holds an earlier run's progress on the same ``key``.

    Raises:
        PrefdeltaError: a folder of its name is there that prefdelta did not make.
    """
    working, marker = working_folder(target), working_folder(target) / KEY
    if os.path.lexists(working):
        _check_ours(working, KEY)
        if resume and marker.is_file() and marker.read_bytes() == key.encode():
            return True
        _remove(working)
    working.mkdir(parents=True)
    marker.write_text(key, encoding="utf-8")
    return False


def discard_working(target: Path, *, keep: bool) -> None:
    """After a failure: leave nothing half-written, but with ``keep`` the progress that the next run continues from."""
    working = working_folder(target)
    if keep and any(path.name != KEY for path in working.glob("*")):
        return
    if (working / KEY).is_file():
        with suppress(OSError):  # the next run clears it away
            _remove(working)


def _remove(folder: Path) -> None:
    """Remove a folder of ours, and last what tells that it is ours, so that a killed removal can be gone on with."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (KEY, MANIFEST):
            path.unlink()
    shutil.rmtree(folder)


def remove_ours(folder: Path) -> None:
    """Remove all folders of ours in a folder, at any depth, finished or begun; and the folder, if nothing is left."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if (path / KEY).is_file() or (read_manifest(path) is not None and not foreign_files(path)):
                _remove(path)
            else:
                remove_ours(path)
    if not any(folder.iterdir()):
        folder.rmdir()


def _check_ours(folder: Path, marker: str) -> None:
    # A working folder has its key until it is sealed, and its manifest afterwards; killed at once, it is empty.
    marked = any((folder / name).is_file() for name in (marker, MANIFEST))
    if folder.is_symlink() or not folder.is_dir() or (any(folder.iterdir()) and not marked):
        raise PrefdeltaError(f"{folder} is in the way and prefdelta did not make it; move it elsewhere.")


def publish(working: Path, target: Path) -> None:
    """Put a finished folder in the place of ``target``, which is free or a folder of ours.

    Raises:
        PrefdeltaError: ``target`` holds files that prefdelta did not write.
    """
    check_output(target, overwrite=True)
    for name in files_in(working):
        _sync(working / name)
    (working / KEY).unlink()
    if target.exists():
        stale = _stale(target)
        os.replace(target, stale)
        try:
            os.replace(working, target)
        except OSError:
            os.replace(stale, target)
            raise
        _remove(stale)
    else:
        os.replace(working, target)
    _sync(target.parent)


def set_aside(folder: Path, target: Path | None = None) -> Path:
    """Rename a damaged folder, so that it (or ``target``) can be made again; returns where it lies now."""
    number = 1
    while os.path.lexists(aside := folder.parent / f".{(target or folder).name}.damaged-{number}"):
        number += 1
    os.replace(folder, aside)
    return aside


def refusal(error: BaseException) -> str | None:
    """Why the disk refused to be written, if that is what an error of any library says; else ``None``."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return error.strerror
    while_writing = error.__context__
    if isinstance(while_writing, OSError) and while_writing.errno in _FULL:
        return while_writing.strerror
    # safetensors and tokenizers are written in Rust, which puts the number into the text.
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number and int(number[1]) in _FULL:
        return os.strerror(int(number[1]))
    # torch.save says only where in its own code it noticed.
    return "the disk may be full" if "inline_container.cc" in str(error) else None


@contextmanager
def _told(target: Path, *, every: bool = False) -> Iterator[None]:
    """Tell a refusal of the file system in one sentence: with ``every`` any, else only those of writing."""
    try:
        yield
    except (PrefdeltaError, KeyboardInterrupt):
        raise
    except BaseException as error:
        reason = refusal(error)
        if reason is None and every and isinstance(error, OSError):
            reason = error.strerror or str(error)
        if isinstance(error, ValueError) and "null byte" in str(error):
            reason = "a name cannot hold a zero byte"
        if reason is None:
            raise
        raise PrefdeltaError(f"{blamed(error, target)}: {reason}.") from error


def blamed(error: BaseException, target: Path) -> str:
    """What the file system refused: to write ``target``, or to use a file that lies elsewhere."""
    name = error.filename if isinstance(error, OSError) and error.errno not in _FULL else None
    if isinstance(name, str):
        place, beside = Path(os.path.abspath(name)), Path(os.path.abspath(target))
        first = next(iter(place.relative_to(beside.parent).parts), "") if place.is_relative_to(beside.parent) else ""
        own = first == beside.name or first.startswith(f".{beside.name}.")
        if not own and place not in beside.parents:
            return f"cannot read or write {name}"
    return f"cannot write {target}".replace("\0", "\\0")


def _stale(target: Path) -> Path:
    return target.parent / f".{target.name}.stale"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
