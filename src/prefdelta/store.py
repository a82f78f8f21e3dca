"""A run directory: artifacts that appear whole or not at all, and know what they were made from.

An artifact is a folder with a ``manifest.json``. Its *key* is a hash of everything that decides its content: the
stage, the resolved configuration, the content of its inputs and the version of this package. While it is being built
it lies in a hidden sibling, ``.NAME.partial``; when it is complete the folder is renamed into place. A build that was
killed finds its partial folder again, if the key still matches, and may continue from what is in it.

Manifests carry no times, so that two runs with the same result are equal byte for byte; when things happened and
how long they took is in the run's ``journal.jsonl``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from prefdelta.errors import PrefdeltaError
from prefdelta.records import digest, to_json

MANIFEST = "manifest.json"
_KEY = ".key"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
_LIBRARIES = ("numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and the hash of its content."""

    path: Path
    content: str


class Store:
    """A run directory.

    Args:
        root: the folder; created when the first artifact is built.
        journal: whether to write down when what was built.
    """

    def __init__(self, root: Path, *, journal: bool = True) -> None:
        self.root = root
        self.journal = journal

    def working(self, name: str) -> Path:
        """Where the artifact ``name`` lies while it is being built."""
        target = self.root / name
        return target.parent / f".{target.name}.partial"

    def get(self, name: str) -> Artifact | None:
        """The artifact ``name``, if it is there, whatever it was made from."""
        manifest = _read_json(self.root / name / MANIFEST)
        return Artifact(self.root / name, manifest["content"]) if manifest else None

    def find(self, name: str, *, stage: str, config: Any, inputs: Mapping[str, Artifact]) -> Artifact | None:
        """The artifact ``name`` if it is there and was made from exactly this, else ``None``."""
        manifest = _read_json(self.root / name / MANIFEST)
        if manifest is None or manifest["key"] != artifact_key(stage, config, inputs):
            return None
        return Artifact(self.root / name, manifest["content"])

    def build(
        self,
        name: str,
        *,
        stage: str,
        config: Any,
        inputs: Mapping[str, Artifact],
        make: Callable[[Path], None],
        resume: bool = False,
    ) -> Artifact:
        """Make the artifact ``name`` by calling ``make`` on its working folder.

        With ``resume``, a working folder that an earlier, killed build of the same key left behind is handed over
        with its content; ``make`` must then give the same result whether it starts from nothing or from there.

        Raises:
            PrefdeltaError: the folder cannot be written. Finished artifacts stay as they were, and nothing half-written
                is left but, with ``resume``, the progress made.
        """
        key = artifact_key(stage, config, inputs)
        target = self.root / name
        working = self.working(name)
        started = time.time()
        try:
            resumed = _open_working(working, key, resume)
            make(working)
            content = self._seal(working, stage, key, config, inputs)
            _publish(working, target)
        except BaseException as error:
            _tidy(working, keep=resume)
            if isinstance(error, OSError) and error.errno in _UNWRITABLE:
                raise PrefdeltaError(
                    f"cannot write {target}: {error.strerror}; free space or fix permissions, then run again."
                ) from error
            raise
        self.log(event="built", artifact=name, stage=stage, seconds=round(time.time() - started, 3), resumed=resumed)
        return Artifact(target, content)

    def _seal(self, working: Path, stage: str, key: str, config: Any, inputs: Mapping[str, Artifact]) -> str:
        """Write the manifest of a finished build; returns the hash of its content."""
        files = {
            str(path.relative_to(working)): file_digest(path)
            for path in sorted(working.rglob("*"))
            if path.is_file() and path.name != _KEY
        }
        content = digest(files)
        manifest = {
            "stage": stage,
            "key": key,
            "content": content,
            "config": json.loads(to_json(config)),
            "inputs": {
                label: {"content": artifact.content, "path": self._label(artifact.path)}
                for label, artifact in sorted(inputs.items())
            },
            "files": files,
            "versions": versions(),
        }
        (working / _KEY).unlink()
        write_json(working / MANIFEST, manifest)
        return content

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory, so that no second process writes to it; the lock ends with the process.

        Raises:
            PrefdeltaError: another process holds it, or the directory cannot be written.
        """
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise PrefdeltaError(f"another process is at work in {self.root}; wait for it or stop it.") from error
        except OSError as error:
            raise PrefdeltaError(f"cannot write to {self.root}: {error.strerror or error}.") from error
        try:
            yield
        finally:
            lock.release()

    def log(self, **entry: Any) -> None:
        """Append to the journal: when what was built, on which machine."""
        if not self.journal:
            return
        self.root.mkdir(parents=True, exist_ok=True)
        line = {"time": round(time.time(), 3), "machine": platform.node(), **entry}
        with (self.root / "journal.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(to_json(line) + "\n")

    def _label(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name


def artifact_key(stage: str, config: Any, inputs: Mapping[str, Artifact]) -> str:
    """The hash of all that decides an artifact's content."""
    contents = {label: artifact.content for label, artifact in inputs.items()}
    return digest({"stage": stage, "config": config, "inputs": contents, "version": metadata.version("prefdelta")})


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide numbers."""
    return {name: metadata.version(name) for name in ("prefdelta", *_LIBRARIES)}


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys, and see it on disk before returning."""
    text = json.dumps(json.loads(to_json(value)), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    replace_text(path, text)


def replace_text(path: Path, text: str) -> None:
    """Replace a file's content in one step: a reader, or a kill, sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _open_working(working: Path, key: str, resume: bool) -> bool:
    """Make ``working`` ready for a build of ``key``; true if it holds an earlier build's progress."""
    marker = working / _KEY
    if resume and marker.is_file() and marker.read_text(encoding="utf-8") == key:
        return True
    for leftover in (working, _stale(working.parent / working.name.removeprefix(".").removesuffix(".partial"))):
        if leftover.exists():
            shutil.rmtree(leftover)
    working.mkdir(parents=True)
    replace_text(marker, key)
    return False


def _tidy(working: Path, *, keep: bool) -> None:
    """After a failure: leave nothing half-written, but keep progress that the next run can continue from."""
    if keep and any(path.name != _KEY for path in working.glob("*")):
        return
    shutil.rmtree(working, ignore_errors=True)


def _stale(target: Path) -> Path:
    return target.parent / f".{target.name}.stale"


def _publish(working: Path, target: Path) -> None:
    for path in working.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    if target.exists():
        # Out of date: its key differs, so nobody may use it any more.
        stale = _stale(target)
        if stale.exists():
            shutil.rmtree(stale)
        os.replace(target, stale)
        os.replace(working, target)
        shutil.rmtree(stale)
    else:
        os.replace(working, target)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"{path} is damaged ({error}); delete its folder and run again.") from error
