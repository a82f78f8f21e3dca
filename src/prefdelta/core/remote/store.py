"""A store whose artifacts lie below a URL: units work in a copy on this machine, and what is finished is uploaded.

The URL holds what a run directory on a disk holds, under the same names. An artifact exists there if its manifest does:
before any of its files changes the manifest is removed, and it is written last. Names of files that are being uploaded
stand in ``NAME/.pending`` meanwhile, so that the next upload knows what a killed one left. What is fetched is compared
to the hashes of its manifest; a copy with the same content hash is not fetched again.
"""

from __future__ import annotations

import fcntl
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import cache_folder, file_digest, replace_bytes
from prefdelta.core.manifests import MANIFEST, damage, parse_manifest, read_manifest
from prefdelta.core.names import list_names
from prefdelta.core.outputs import locked, open_working, publish, recover, set_aside, working_folder
from prefdelta.core.records import digest, to_json
from prefdelta.core.remote import lease
from prefdelta.core.remote.objects import Objects
from prefdelta.core.shard import SHARDS
from prefdelta.core.store import JOURNAL, LOCK, Artifact, Store, artifact_key

PENDING = ".pending"

_PARTS = ".journal"
_MARKS = (f"/{MANIFEST}", f"/{PENDING}")
_AT_ONCE = 8
"""Files that are copied at the same time."""


class RemoteStore(Store):
    """A run directory below a URL, and the copy of it that this machine works in.

    Args:
        url: where the run is.
        cache: folder of copies; that of :func:`prefdelta.core.files.cache_folder` if left out.
        token: of the lease, if somebody else holds it for this store; given to the workers of a run.

    Raises:
        PrefdeltaError: the address needs what is not installed, or is none.
    """

    def __init__(self, url: str, cache: Path | None = None, *, token: str | None = None) -> None:
        self._objects = Objects(url)
        self._cache, self._token = cache and cache.absolute(), token
        name = f"{self.shown.rpartition('/')[2]}-{digest(self.shown)[:12]}"
        super().__init__((self._cache or cache_folder() / "runs") / name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._objects.address, self._cache, self._token)

    @property
    def shown(self) -> str:
        """The URL, for people."""
        return self._objects.url

    def seen(self) -> bool:
        """Whether this machine sees the run directory: what it needs is fetched, and a failure told then."""
        return True

    def names(self) -> list[str]:
        """What lies below the URL, but hidden files."""
        return sorted({name.split("/")[0] for name in self._objects.sizes() if not name.startswith(".")})

    def read(self, name: str) -> bytes | None:
        """A file that lies beside the artifacts, if it is there."""
        return self._objects.read(name)

    def share(self, *names: str) -> None:
        """Upload files that were written beside the artifacts, in the order given; without names, all of them."""
        self._check_lease()
        beside = sorted(path.name for path in self.root.glob("[!.]*") if path.is_file() and path.name != JOURNAL)
        for name in names or beside:
            self._objects.put(self.root / name, name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run on all machines, and bring its journal here.

        Raises:
            PrefdeltaError: another process holds it, here or elsewhere, or the store cannot be written.
        """
        with self._copy_locked(), lease.held(self._objects, self.root) as self._token:
            try:
                self._gather_journal()
                yield
            finally:
                with suppress(PrefdeltaError):  # it is here, and the next run brings it there
                    self._check_lease()
                    self._gather_journal()
                self._token = None

    @contextmanager
    def _copy_locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.root, self.root / LOCK))
            except PrefdeltaError as error:
                if who := lease.holder(self._objects):
                    raise PrefdeltaError(f"{self.shown} is held by {who}; wait for it or stop it.") from error
                raise
            yield

    def reuse(self, name: str, *, stage: str, config: Any, inputs: Mapping[str, Artifact]) -> Artifact | None:
        """As :meth:`Store.reuse`: what is below the URL, or what this machine made and did not finish uploading.

        Raises:
            PrefdeltaError: files lie in it that prefdelta did not write, or it cannot be fetched.
        """
        text = self._objects.read(f"{name}/{MANIFEST}")
        there = parse_manifest(text) if text is not None else None
        if text is not None and there is None:
            self._damaged(name, [f"{self.shown}/{name}/{MANIFEST} is damaged"], self._copied(name))
        if there is None or there.get("key") != artifact_key(stage, config, inputs):
            found = super().reuse(name, stage=stage, config=config, inputs=inputs)
            if found:
                self._upload(name)
            return found
        whole = self._has(name, there["content"]) and not damage(self.place(name))
        if not whole and (wrong := self._fetch(name, text or b"")):
            self._damaged(name, wrong, working_folder(self.place(name)))
            return None
        sizes = self._objects.sizes(name)
        # A kill may have left the list of pending files; other files may have been lost, and are whole here.
        if {f"{name}/{file}": size for file, size in there["bytes"].items()}.items() - sizes.items():
            self._upload(name)
        elif f"{name}/{PENDING}" in sizes:
            self._objects.remove(f"{name}/{PENDING}")
        return Artifact(self.place(name), there["content"])

    def build(self, name: str, **arguments: Any) -> Artifact:
        """As :meth:`Store.build`; the artifact is uploaded when it is finished."""
        artifact = super().build(name, **arguments)
        self._upload(name)
        return artifact

    def discard_shards(self) -> None:
        """As :meth:`Store.discard_shards`, here and below the URL."""
        super().discard_shards()
        self._check_lease()
        places = {name.rpartition("/")[0] for name in self._objects.sizes(SHARDS) if name.endswith(_MARKS)}
        for place in sorted(places):
            for file in [MANIFEST, *sorted(self._ours(place)), PENDING]:
                self._objects.remove(f"{place}/{file}")

    def at_hand(self, name: str, artifact: Artifact) -> Artifact:
        """As :meth:`Store.at_hand`: fetched if this machine has no copy of the same content."""
        if not self._has(name, artifact.content):
            text = self._objects.read(f"{name}/{MANIFEST}") or b""
            if (parse_manifest(text) or {}).get("content") != artifact.content:
                raise PrefdeltaError(f"{self.shown}/{name} was removed or replaced; run the recipe again.")
            if wrong := self._fetch(name, text):
                raise PrefdeltaError(f"{list_names(wrong)}; run the recipe again, which makes it again.")
        return Artifact(self.place(name), artifact.content)

    def bring(self) -> Path:
        """Fetch the whole run, as far as this machine has no copy of it; returns the copy, a run directory.

        Raises:
            PrefdeltaError: there is none, it is damaged, or a run is at work in the copy.
        """
        sizes = self._objects.sizes()
        self._check_found(sizes)
        with self._copy_locked():
            for name in _artifacts(sizes):
                manifest = parse_manifest(self._objects.read(f"{name}/{MANIFEST}") or b"")
                if manifest is None:
                    raise PrefdeltaError(f"{self.shown}/{name}/{MANIFEST} is damaged; run the recipe again.")
                self.at_hand(name, Artifact(self.place(name), manifest["content"]))
            for name in sizes:
                if "/" not in name and not name.startswith(".") and name != JOURNAL:
                    replace_bytes(self.place(name), self._objects.read(name) or b"")
            replace_bytes(self.root / JOURNAL, self._journal()[0])
        return self.root

    def download(self, folder: Path) -> None:
        """Copy all that lies below the URL into a folder, damaged or not.

        Raises:
            PrefdeltaError: nothing is there.
        """
        sizes = self._objects.sizes()
        self._check_found(sizes)
        names = [name for name in sizes if not name.startswith(".") and not name.endswith(f"/{PENDING}")]
        _check_names(self.shown, names)
        self._at_once(lambda name: self._objects.get(name, folder / name), names)
        if journal := self._journal()[0]:
            replace_bytes(folder / JOURNAL, journal)

    def _check_found(self, sizes: Mapping[str, int]) -> None:
        if not any(not name.startswith(".") for name in sizes):
            raise PrefdeltaError(f"nothing is at {self.shown}; name what `prefdelta run -o` named.")

    def _has(self, name: str, content: str) -> bool:
        """Whether the copy on this machine holds an artifact of that content."""
        manifest = read_manifest(self.place(name))
        return manifest is not None and manifest["content"] == content

    def _fetch(self, name: str, text: bytes) -> list[str]:
        """Fetch an artifact by its manifest; returns what is damaged, and then leaves it in the working folder."""
        manifest, target = parse_manifest(text) or {}, self.place(name)
        files: Mapping[str, str] = manifest["files"]
        _check_names(f"{self.shown}/{name}", files)
        with _alone(self.root):
            recover(target)  # only here, where no other process is about to publish it
            if self._has(name, manifest["content"]) and not damage(target):
                return []  # another task of this machine was faster
            open_working(target, f"fetched {manifest['content']}", resume=True)
            working = working_folder(target)

            def get(file: str) -> None:
                path = working / file
                if not path.is_file() or file_digest(path) != files[file]:
                    self._objects.get(f"{name}/{file}", path)

            self._at_once(get, files)
            replace_bytes(working / MANIFEST, text)
            if wrong := damage(working):
                return [sentence.replace(str(working), f"{self.shown}/{name}") for sentence in wrong]
            publish(working, target)
        return []

    def _damaged(self, name: str, found: list[str], copy: Path) -> None:
        """Keep a copy of a damaged artifact on this machine, and have it made again."""
        aside = set_aside(copy, self.place(name))
        self._check_lease()
        self._withdraw(name, {file.removeprefix(f"{name}/") for file in self._objects.sizes(name)})
        self.told(f"{list_names(found)}: made again, what was there is kept as {aside}.")
        self.log(event="damaged", artifact=name, found=found, aside=self._label(aside))

    def _copied(self, name: str) -> Path:
        """A copy of all that lies in an artifact's place, in a folder of this machine."""
        open_working(self.place(name), "copied", resume=False)
        working = working_folder(self.place(name))
        files = [file.removeprefix(f"{name}/") for file in self._objects.sizes(name)]
        _check_names(f"{self.shown}/{name}", files)
        self._at_once(lambda file: self._objects.get(f"{name}/{file}", working / file), files)
        return working

    def _upload(self, name: str) -> None:
        """Put this machine's artifact below the URL, in the place of an earlier one.

        Raises:
            PrefdeltaError: files lie there that prefdelta did not write, or another run has taken over.
        """
        self._check_lease()
        folder = self.place(name)
        new = set((read_manifest(folder) or {})["files"])
        ours = self._ours(name)
        there = {file.removeprefix(f"{name}/") for file in self._objects.sizes(name)}
        if foreign := there - ours - {MANIFEST, PENDING}:
            raise PrefdeltaError(
                f"{self.shown}/{name} holds files that prefdelta did not write ({list_names(sorted(foreign))}); "
                "move them elsewhere."
            )
        self._withdraw(name, ours | new)
        self._at_once(lambda file: self._objects.put(folder / file, f"{name}/{file}"), sorted(new))
        for file in there & ours - new:
            self._objects.remove(f"{name}/{file}")
        self._check_lease()
        self._objects.write(f"{name}/{MANIFEST}", (folder / MANIFEST).read_bytes())
        self._objects.remove(f"{name}/{PENDING}")

    def _ours(self, name: str) -> set[str]:
        """The files in an artifact's place that prefdelta wrote, by its manifest and the list of pending files."""
        manifest = parse_manifest(self._objects.read(f"{name}/{MANIFEST}") or b"") or {"files": {}}
        with suppress(ValueError):  # torn
            return {*manifest["files"], *json.loads(self._objects.read(f"{name}/{PENDING}") or b"[]")}
        return set(manifest["files"])

    def _withdraw(self, name: str, ours: Iterable[str]) -> None:
        """Take an artifact's manifest away, and write down which files are ours."""
        files = sorted({*ours} - {MANIFEST, PENDING})
        self._objects.write(f"{name}/{PENDING}", to_json(files).encode())
        self._objects.remove(f"{name}/{MANIFEST}")

    def _check_lease(self) -> None:
        if self._token is not None:
            lease.check(self._objects, self._token)

    def _append(self, line: str) -> None:
        super()._append(line)
        with suppress(PrefdeltaError):  # it is here, and goes there when the journal is gathered
            self._objects.write(f"{_PARTS}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", line.encode(), tries=1)

    def _journal(self) -> tuple[bytes, list[str]]:
        """The journal below the URL, and the names of the parts that hold its end, as nothing can be appended there."""
        parts = sorted(self._objects.sizes(_PARTS))
        texts = [self._objects.read(name) or b"" for name in (JOURNAL, *parts)]
        return _lines_once(texts), parts

    def _gather_journal(self) -> None:
        """Make one journal of the parts, and of what this machine could not upload, here and below the URL."""
        here = self.root / JOURNAL
        text, parts = self._journal()
        text = _lines_once([text, here.read_bytes() if here.is_file() else b""])
        if text:
            replace_bytes(here, text)
            self._objects.write(JOURNAL, text)
        for name in parts:
            self._objects.remove(name)

    def _at_once(self, act: Callable[[str], object], names: Iterable[str]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(act, names))


def _reopened(url: str, cache: Path | None, token: str | None) -> RemoteStore:
    return RemoteStore(url, cache, token=token)


def _artifacts(names: Iterable[str]) -> list[str]:
    """The folders with a manifest, but for those inside of one."""
    found: list[str] = []
    for name in sorted(name.removesuffix(f"/{MANIFEST}") for name in names if name.endswith(f"/{MANIFEST}")):
        if not any(name.startswith(f"{outer}/") for outer in found):
            found.append(name)
    return found


def _check_names(place: str, names: Iterable[str]) -> None:
    """Refuse names that would lie outside of the folder that they are copied to."""
    for name in names:
        if name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
            raise PrefdeltaError(f"{place} names a file {name!r}, which cannot be one of a run.")


def _lines_once(texts: Iterable[bytes]) -> bytes:
    lines = dict.fromkeys(line for text in texts for line in text.split(b"\n") if line)
    return b"".join(line + b"\n" for line in lines)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until no other process of this machine fetches into the same copy."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".fetching").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
