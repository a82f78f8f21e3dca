"""A run directory below a URL: nothing half-made is ever there, damage is noticed, refusals are sentences."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folders import contents
from object_stores import FILE, HAS_S3, MEMORY, S3, SECRET, address, ask_for_keys, half_artifacts, tree
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import replace_bytes
from prefdelta.core.records import digest
from prefdelta.core.remote import objects
from prefdelta.core.remote.objects import Objects, shown
from prefdelta.core.remote.store import RemoteStore
from prefdelta.core.store import Artifact, Store
from whole_runs import forked

EVERYWHERE = pytest.mark.parametrize("url", [FILE, MEMORY, S3], indirect=True)
BETWEEN_PROCESSES = pytest.mark.parametrize("url", [FILE, S3], indirect=True)
ON_S3 = pytest.mark.parametrize("url", [S3], indirect=True)
FILES = {"answers.jsonl": b"first\n" * 1000, "nested/scores.json": b"{}\n", "weights": bytes(range(256)) * 64}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(objects, "PAUSES", (0.0, 0.0, 0.0))
    return address(request.param, tmp_path, monkeypatch)


def build(store: Store, files: dict[str, bytes], name: str = "a/one") -> Artifact:
    """Make an artifact of these files, or find it."""
    config = {"bytes": [len(content) for content in files.values()], "names": list(files)}

    def make(work: Path) -> None:
        for file, content in files.items():
            replace_bytes(work / file, content)

    found = store.reuse(name, stage="s", config=config, inputs={})
    return found or store.build(name, stage="s", config=config, inputs={}, make=make)


@EVERYWHERE
def test_objects_are_written_once_read_listed_and_removed(url: str, tmp_path: Path) -> None:
    place = Objects(url)
    assert (place.sizes(), place.read("a/b"), place.modified("a/b")) == ({}, None, None)
    place.write("a/b", b"one")
    place.create("a/b", b"two")
    place.create("c", b"three")
    assert (place.read("a/b"), place.sizes(), place.sizes("a")) == (b"one", {"a/b": 3, "c": 5}, {"a/b": 3})
    replace_bytes(tmp_path / "here", b"four")
    place.put(tmp_path / "here", "a/d/e")
    assert place.get("a/d/e", tmp_path / "x" / "back")
    assert (tmp_path / "x" / "back").read_bytes() == b"four"
    assert not place.get("none", tmp_path / "none")
    for name in ("a/b", "a/b", "c", "a/d/e"):
        place.remove(name)
    assert place.sizes() == {}


@EVERYWHERE
def test_below_the_url_lies_what_lies_in_a_folder(url: str, tmp_path: Path) -> None:
    local, remote = Store(tmp_path / "local"), RemoteStore(url, tmp_path / "cache")
    with remote.locked():
        for store in (local, remote):
            build(store, FILES)
            build(store, {"answers.jsonl": b"other"}, "b")
            replace_bytes(store.root / "results.json", b"{}")
            store.share()
    files = {name: text for name, text in contents(tmp_path / "local").items() if name != "journal.jsonl"}
    assert tree(Objects(url)) == files
    # Another machine: nothing is made again, and what is fetched is the same.
    other = RemoteStore(url, tmp_path / "other")
    with other.locked():
        again = build(other, FILES)
    assert contents(again.path) == contents(tmp_path / "local" / "a" / "one")
    events = [json.loads(line)["event"] for line in (other.root / "journal.jsonl").read_text().splitlines()]
    assert events == ["built", "built"]


@EVERYWHERE
def test_a_worker_elsewhere_fetches_its_inputs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDELTA_CACHE", str(tmp_path / "here"))
    store = RemoteStore(url)
    with store.locked():
        made = build(store, FILES)
        monkeypatch.setenv("PREFDELTA_CACHE", str(tmp_path / "there"))
        worker: RemoteStore = pickle.loads(pickle.dumps(store))  # noqa: S301 (our own bytes)
        input_there = worker.at_hand("a/one", made)
        assert input_there.path.is_relative_to(tmp_path / "there")
        assert contents(input_there.path) == contents(made.path)
        built = build(worker, {"x": b"made there"}, "b")
        assert contents(store.at_hand("b", built).path) == contents(built.path)
        Objects(url).write(".lease/000009", b"somebody's")
        with pytest.raises(PrefdeltaError, match="no longer this run's"):
            build(worker, {"x": b"too late"}, "c")
    assert not [name for name in Objects(url).sizes() if name.startswith("c/")]


def die_at(number: int) -> None:
    """Have this process kill itself before the operation of that number on a store, or in the middle of its file."""
    count = 0
    tried, put = Objects._tried, Objects.put

    def counted(self: Objects, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return tried(self, *arguments)

    def halved(self: Objects, path: Path, name: str) -> None:
        if count + 1 == number:
            self._system.pipe_file(self._at(name), path.read_bytes()[: path.stat().st_size // 2])
        put(self, path, name)

    Objects._tried, Objects.put = counted, halved  # type: ignore[method-assign]


@pytest.mark.parametrize("replaced", [False, True])
@BETWEEN_PROCESSES
def test_killed_at_every_moment_nothing_half_is_there_and_the_next_run_goes_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr("prefdelta.core.remote.store._AT_ONCE", 1)
    files = {"answers.jsonl": FILES["answers.jsonl"][::-1], "new": b"1"} if replaced else FILES
    build(Store(tmp_path / "local"), files, "a")
    wanted = {f"a/{name}": text for name, text in contents(tmp_path / "local" / "a").items()}
    unfinished = 0
    # A request to a server costs far more than one to the disk, where every moment is tried.
    for number in range(1, 1000, 1 if replaced and url.startswith("file") else 3):
        place, cache = Objects(f"{url}/{number}"), tmp_path / f"cache-{number}"

        def work(number: int = number, cache: Path = cache) -> None:
            store = RemoteStore(f"{url}/{number}", cache)
            with store.locked():
                if replaced:
                    build(store, FILES, "a")
                die_at(number)
                build(store, files, "a")

        ended = forked(work)
        assert half_artifacts(place, tmp_path / "copies") == []
        unfinished += tree(place) != wanted
        store = RemoteStore(f"{url}/{number}", cache)
        with store.locked():
            build(store, files, "a")
        assert tree(place) == wanted
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert unfinished > 2
    assert number < 50


@EVERYWHERE
def test_shards_go_here_and_there_and_nothing_else(url: str, tmp_path: Path) -> None:
    store, place = RemoteStore(url, tmp_path / "cache"), Objects(url)
    with store.locked():
        build(store, FILES, "a")
        before = tree(place)
        for number in range(2):
            build(store, FILES, f".shards/a/{number}")
        place.write(".shards/a/2/.pending", b'["weights"]')  # as a killed upload leaves it
        place.write(".shards/a/2/weights", b"half")
        place.write(".shards/notes.txt", b"mine")
        store.discard_shards()
        assert place.sizes(".shards") == {".shards/notes.txt": 4}
        assert not (store.root / ".shards").exists()
    assert tree(place) == before


@EVERYWHERE
def test_what_others_wrote_is_not_touched(url: str, tmp_path: Path) -> None:
    store, place = RemoteStore(url, tmp_path / "cache"), Objects(url)
    with store.locked():
        build(store, FILES)
        place.write("a/one/note.txt", b"mine")
        with pytest.raises(PrefdeltaError, match=r"a/one holds files that prefdelta did not write \(note.txt\)"):
            build(store, {"new": b"1"})
    assert place.read("a/one/note.txt") == b"mine"
    assert half_artifacts(place, tmp_path / "copies") == []


DAMAGE: list[tuple[str, Callable[[bytes], bytes | None], str]] = [
    ("weights", lambda text: bytes([text[0] ^ 1]) + text[1:], "was changed after it was written"),
    ("answers.jsonl", lambda text: text[:-1], "5999 bytes instead of 6000|bytes instead of"),
    ("nested/scores.json", lambda text: None, "is missing"),
    ("manifest.json", lambda text: text[:-9], "is damaged"),
]


@pytest.mark.parametrize(("name", "harm", "words"), DAMAGE, ids=[name for name, _, _ in DAMAGE])
@EVERYWHERE
def test_damage_is_noticed_on_arrival_kept_and_made_again(
    url: str, tmp_path: Path, name: str, harm: Callable[[bytes], bytes | None], words: str
) -> None:
    store, place = RemoteStore(url, tmp_path / "cache"), Objects(url)
    with store.locked():
        made = build(store, FILES)
    before = tree(place)
    harmed = harm(before[f"a/one/{name}"])
    place.remove(f"a/one/{name}") if harmed is None else place.write(f"a/one/{name}", harmed)
    other, told = RemoteStore(url, tmp_path / "other"), []
    other.told = told.append
    if name != "manifest.json":
        with pytest.raises(PrefdeltaError, match=f"{url}/a/one/{name} .*({words}).*run the recipe again"):
            other.at_hand("a/one", made)
    with other.locked():
        build(other, FILES)
    assert tree(place) == before
    (sentence,) = told
    assert f"{url}/a/one/{name}" in sentence
    (aside,) = (tmp_path / "other").rglob(".one.damaged-1")
    kept = {path: text for path, text in contents(aside).items() if path != ".key"}
    assert kept.get(name) == harmed
    assert "damaged" in (other.root / "journal.jsonl").read_text()


@EVERYWHERE
def test_what_is_missing_there_and_whole_here_is_uploaded_again(url: str, tmp_path: Path) -> None:
    store, place = RemoteStore(url, tmp_path / "cache"), Objects(url)
    with store.locked():
        build(store, FILES)
        before = tree(place)
        place.remove("a/one/weights")
        build(store, FILES)
    assert tree(place) == before


@EVERYWHERE
def test_a_manifest_cannot_name_files_outside(url: str, tmp_path: Path) -> None:
    """A store is somebody else's machine."""
    place, evil = Objects(url), Store(tmp_path / "evil")
    build(evil, {"x": b"1"}, "a")
    manifest = json.loads((tmp_path / "evil" / "a" / "manifest.json").read_text())
    files = {"../../outside": next(iter(manifest["files"].values()))}
    changed = {**manifest, "files": files, "bytes": {"../../outside": 1}, "content": digest(files)}
    changed["digest"] = digest({name: entry for name, entry in changed.items() if name != "digest"})
    place.write("a/manifest.json", json.dumps(changed).encode())
    store = RemoteStore(url, tmp_path / "cache")
    with store.locked(), pytest.raises(PrefdeltaError, match="cannot be one of a run"):
        build(store, {"x": b"1"}, "a")


@EVERYWHERE
def test_the_journal_is_written_in_parts_and_gathered(url: str, tmp_path: Path) -> None:
    store, place = RemoteStore(url, tmp_path / "cache"), Objects(url)
    with store.locked():
        for number in range(3):
            store.log(event="built", number=number)
        assert len(place.sizes(".journal")) == 3
        assert place.read("journal.jsonl") is None
    assert place.sizes(".journal") == {}
    with RemoteStore(url, tmp_path / "other").locked():
        store.log(event="built", number=3)  # as a worker of another machine
    lines = (place.read("journal.jsonl") or b"").decode().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2, 3]


@pytest.mark.skipif(HAS_S3, reason="s3fs is installed")
def test_without_s3fs_the_extra_is_named() -> None:
    with pytest.raises(PrefdeltaError, match=r"s3://b/run needs s3fs: pip install 'prefdelta\[remote\]'"):
        Objects("s3://b/run")


def test_what_the_address_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PrefdeltaError, match="fsspec does not know nowhere://"):
        Objects("nowhere://b/run")
    for url in (f"s3://key:{SECRET}@b/run?token={SECRET}", f"gs://{SECRET}@b/run"):
        with pytest.raises(PrefdeltaError, match=r"holds no keys; give (s3|gs)://b/run, ") as told:
            Objects(url)
        assert SECRET not in str(told.value)
    assert shown(f"sftp://me:{SECRET}@host:22/run/?a={SECRET}") == "sftp://host:22/run"
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(PrefdeltaError, match=r"needs fsspec: pip install 'prefdelta\[remote\]'"):
        Objects("memory://b")


def test_a_store_that_fails_now_and_then_is_asked_again_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAUSES", (0.0, 0.0, 0.0))
    place, fails = Objects(f"file://{tmp_path}/bucket"), [3]
    cat = place._system.cat_file

    def falters(path: str) -> bytes:
        fails[0] -= 1
        if fails[0] >= 0:
            raise ConnectionResetError(f"{SECRET} was refused")
        return bytes(cat(path))

    place.write("x", b"1")
    monkeypatch.setattr(place._system, "cat_file", falters)
    assert place.read("x") == b"1"
    fails[0] = 99
    with pytest.raises(PrefdeltaError, match=r"cannot read .*/bucket: .* \(ConnectionResetError\), 4 times\."):
        place.read("x")
    assert fails[0] == 95


@ON_S3
def test_what_a_server_refuses_is_told_in_a_sentence_without_keys(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(url: str) -> str:
        said = []
        for act in (lambda place: place.write("x", b"1"), lambda place: place.read("x"), Objects.sizes):
            try:
                act(Objects(url))
            except PrefdeltaError as error:
                said.append(str(error))
        assert SECRET not in "".join(said)
        return " ".join(said)

    assert told("s3://no-such-bucket/run") == (
        "cannot write to s3://no-such-bucket/run: there is no s3://no-such-bucket; make it first."
    )
    ask_for_keys("0")
    assert told(url).count("access is denied (") == 3
    ask_for_keys("inf")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert told(url).count("does not answer as it should (EndpointConnectionError), 4 times") == 3
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nowhere")
    assert told(url).count("no credentials were found (NoCredentialsError)") == 3
