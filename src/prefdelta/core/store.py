"""A run directory: artifacts that appear whole or not at all, and know what they were made from.

An artifact is a folder with a ``manifest.json``. Its *key* is a hash of everything that decides its content: the
stage, the resolved configuration, the content of its inputs and the version of this package. A build that was killed
finds its working folder again, if the key still matches, and may continue from what is in it.

Manifests carry no times, so that two runs with the same result are equal byte for byte; when things happened and
how long they took is in the run's ``journal.jsonl``.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import asked_by, damage, foreign_files, read_manifest, seal, versions
from prefdelta.core.names import list_names
from prefdelta.core.outputs import (
    blamed,
    check_free,
    check_output,
    discard_working,
    locked,
    open_working,
    publish,
    recover,
    refusal,
    remove_ours,
    set_aside,
    working_folder,
)
from prefdelta.core.records import digest, to_json
from prefdelta.core.shard import SHARDS

JOURNAL = "journal.jsonl"
LOCK = ".lock"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and the hash of its content."""

    path: Path
    content: str

    def json(self, name: str) -> Any:
        """The value of a JSON file in it."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))


class Store:
    """A run directory.

    Args:
        root: the folder; created when the first artifact is built.
        journal: whether to write down when what was built.
        told: called with a sentence for an artifact that is damaged and made again.
    """

    def __init__(self, root: Path, *, journal: bool = True, told: Callable[[str], None] | None = None) -> None:
        self.root = root
        self.journal = journal
        self.told = told or (lambda sentence: None)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a worker gets: the same store, with nobody to tell."""
        return type(self), (Path(os.path.abspath(self.root)),)

    @property
    def shown(self) -> str:
        """The run directory, for people."""
        return str(self.root)

    def seen(self) -> bool:
        """Whether this machine sees the run directory."""
        return self.root.is_dir()

    def names(self) -> list[str]:
        """What lies in the run directory, but hidden files."""
        return sorted(path.name for path in self.root.iterdir() if path.name[0] != ".") if self.root.is_dir() else []

    def read(self, name: str) -> bytes | None:
        """A file that lies beside the artifacts, if it is there."""
        path = self.root / name
        return path.read_bytes() if path.exists() else None

    def share(self, *names: str) -> None:
        """Show files that were written beside the artifacts to all who read the run; without names, all of them.

        On a disk they see them anyway.
        """

    def at_hand(self, name: str, artifact: Artifact) -> Artifact:
        """An artifact that this machine or another one made, with its files on this machine.

        Raises:
            PrefdeltaError: they cannot be had.
        """
        return Artifact(self.place(name), artifact.content)

    def place(self, name: str) -> Path:
        """Where the artifact ``name`` lies.

        Raises:
            PrefdeltaError: that would not be inside the root.
        """
        target, root = self.root / name, self.root.resolve()
        if ".." in Path(name).parts or root not in (target.parent.resolve() / target.name).parents:
            raise PrefdeltaError(f"the artifact {name!r} would lie outside {self.root}; give it another name.")
        return target

    def working(self, name: str) -> Path:
        """Where the artifact ``name`` lies while it is being built."""
        return working_folder(self.place(name))

    def get(self, name: str) -> Artifact | None:
        """The artifact ``name``, whole, if it is there, whatever it was made from.

        Raises:
            PrefdeltaError: it is damaged.
        """
        target = self.place(name)
        if not target.exists():
            return None
        if found := damage(target):
            raise PrefdeltaError(f"{found[0]}; run the recipe again, which makes it again.")
        manifest = read_manifest(target)
        return Artifact(target, manifest["content"]) if manifest else None

    def find(self, name: str, *, stage: str, config: Any, inputs: Mapping[str, Artifact]) -> Artifact | None:
        """The artifact ``name`` if it is there and was made from exactly this, else ``None``; nobody looks inside."""
        target = self.place(name)
        manifest = read_manifest(target)
        if manifest is None or manifest.get("key") != artifact_key(stage, config, inputs):
            return None
        return Artifact(target, manifest["content"])

    def reuse(self, name: str, *, stage: str, config: Any, inputs: Mapping[str, Artifact]) -> Artifact | None:
        """:meth:`find`, but with every file compared to its hash: a damaged artifact steps aside, to be made again.

        Raises:
            PrefdeltaError: files lie in it that prefdelta did not write.
        """
        target = self.place(name)
        recover(target)
        manifest = read_manifest(target)
        if manifest is not None:
            if manifest.get("key") != artifact_key(stage, config, inputs):
                return None
            if foreign := foreign_files(target):
                raise PrefdeltaError(
                    f"{target} holds files that prefdelta did not write ({list_names(foreign)}); move them elsewhere."
                )
            found = damage(target)
            if not found:
                return Artifact(target, manifest["content"])
        elif target.is_dir() and not target.is_symlink() and any(target.iterdir()):
            found = damage(target)
        else:
            return None
        aside = set_aside(target)
        self.told(f"{list_names(found)}: made again, what was there is kept as {aside}.")
        self.log(event="damaged", artifact=name, found=found, aside=self._label(aside))
        return None

    def build(
        self,
        name: str,
        *,
        stage: str,
        config: Any,
        inputs: Mapping[str, Artifact],
        make: Callable[[Path], None],
        resume: bool = False,
        overwrite: bool = True,
    ) -> Artifact:
        """Make the artifact ``name`` by calling ``make`` on its working folder.

        With ``resume``, a working folder that an earlier, killed build of the same key left behind is handed over
        with its content; ``make`` must then give the same result whether it starts from nothing or from there.

        Raises:
            PrefdeltaError: the folder cannot be written, or is not one that may be replaced
                (:func:`prefdelta.core.outputs.check_output`). Finished artifacts stay as they were, and nothing
                half-written is left but, with ``resume``, the progress made.
        """
        key = artifact_key(stage, config, inputs)
        target = self.place(name)
        recover(target)
        check_output(target, overwrite=overwrite)
        started = time.time()
        try:
            resumed = open_working(target, key, resume=resume)
            make(working_folder(target))
            made_of = {"stage": stage, "key": key, "config": config, "inputs": self._described(inputs)}
            content = seal(working_folder(target), {**made_of, **asked_by(), "versions": versions()})
            publish(working_folder(target), target)
        except BaseException as error:
            discard_working(target, keep=resume)
            reason = refusal(error) if isinstance(error, Exception) else None
            if reason is not None and not isinstance(error, PrefdeltaError):
                raise PrefdeltaError(
                    f"{blamed(error, target)}: {reason}; free space or fix permissions, then run again."
                ) from error
            raise
        self.log(event="built", artifact=name, stage=stage, seconds=round(time.time() - started, 3), resumed=resumed)
        return Artifact(target, content)

    def discard_shards(self) -> None:
        """Remove all shards, finished or begun: what they are parts of is made."""
        if (self.root / SHARDS).is_dir():
            remove_ours(self.root / SHARDS)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory, so that no second process writes to it; the lock ends with the process.

        Raises:
            PrefdeltaError: another process holds it, or is about to put a folder of its own there, or the directory
                cannot be written.
        """
        check_free(self.root)  # here, as holding it makes the directory
        with locked(self.root, self.root / LOCK):
            check_free(self.root)  # and again: of two that begin at once, one at least sees the other
            yield

    def log(self, **entry: Any) -> None:
        """Append to the journal: when what was built, on which machine."""
        if self.journal:
            self._append(to_json({"time": round(time.time(), 3), "machine": platform.node(), **entry}) + "\n")

    def _append(self, line: str) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / JOURNAL).open("a+b") as handle:
            if handle.tell():
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    handle.write(b"\n")  # a kill tore the last line
            handle.write(line.encode("utf-8"))

    def _described(self, inputs: Mapping[str, Artifact]) -> dict[str, dict[str, str]]:
        return {
            label: {"content": artifact.content, "path": self._label(artifact.path)}
            for label, artifact in sorted(inputs.items())
        }

    def _label(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name


def builds(root: Path) -> Iterator[dict[str, Any]]:
    """What the journal of a run says of each artifact that was built; lines that a kill tore are passed over."""
    journal = root / JOURNAL
    for line in journal.read_bytes().split(b"\n") if journal.is_file() else ():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("event") == "built":
                yield entry


def artifact_key(stage: str, config: Any, inputs: Mapping[str, Artifact]) -> str:
    """The hash of all that decides an artifact's content."""
    contents = {label: artifact.content for label, artifact in inputs.items()}
    return digest({"stage": stage, "config": config, "inputs": contents, "version": metadata.version("prefdelta")})
