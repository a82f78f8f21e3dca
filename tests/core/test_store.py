"""Artifacts appear whole or not at all, and are made again exactly when something that decides them changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import replace_text
from prefdelta.core.manifests import ROWS
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.store import Artifact, Store


def build(store: Store, text: str, config: object = None, inputs: dict[str, Artifact] | None = None) -> Artifact:
    return store.build(
        "a/one",
        stage="stage",
        config=config or {},
        inputs=inputs or {},
        make=lambda work: replace_text(work / "text", text),
    )


def test_content_hash_depends_on_content_only(tmp_path: Path) -> None:
    first = build(Store(tmp_path / "x"), "same", {"k": 1})
    second = build(Store(tmp_path / "y"), "same", {"k": 2})
    third = build(Store(tmp_path / "z"), "other", {"k": 1})
    assert first.content == second.content != third.content


def test_manifests_of_equal_builds_are_equal_bytes(tmp_path: Path) -> None:
    manifests = [(build(Store(tmp_path / run), "same").path / "manifest.json").read_bytes() for run in ("x", "y")]
    assert manifests[0] == manifests[1]


def test_only_resumable_rows_are_left_out_of_a_finished_folder(tmp_path: Path) -> None:
    """Other logs stay, a tracker's among them: their ending is not that of resumable rows."""

    def make(folder: Path) -> None:
        ResumableRows(folder / f"answers{ROWS}").add([("a", 1)])
        (folder / "wandb").mkdir()
        for name in ("debug.log", "wandb/debug-internal.log", "scores.log"):
            (folder / name).write_text("told by a tracker")

    built = Store(tmp_path).build("a", stage="s", config={}, inputs={}, make=make)
    kept = ["debug.log", "manifest.json", "scores.log", "wandb/debug-internal.log"]
    assert sorted(str(p.relative_to(built.path)) for p in built.path.rglob("*") if p.is_file()) == kept


def test_a_folder_that_cannot_be_finished_keeps_its_resumable_rows(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        ResumableRows(folder / f"answers{ROWS}").add([("a", 1)])
        (folder / "manifest.json").mkdir(exist_ok=True)  # in the way of the real one

    with pytest.raises((PrefdeltaError, OSError)):
        Store(tmp_path).build("one", stage="s", config={}, inputs={}, make=make, resume=True)
    assert ResumableRows(tmp_path / ".one.partial" / f"answers{ROWS}").found == {"a": 1}


def test_found_only_under_the_same_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = build(store, "text", {"k": 1})
    other = Artifact(tmp_path, "other content")
    assert store.find("a/one", stage="stage", config={"k": 1}, inputs={}) == artifact
    assert store.find("a/one", stage="stage", config={"k": 2}, inputs={}) is None
    assert store.find("a/one", stage="later", config={"k": 1}, inputs={}) is None
    assert store.find("a/one", stage="stage", config={"k": 1}, inputs={"in": other}) is None
    assert store.find("a/two", stage="stage", config={"k": 1}, inputs={}) is None


def test_rebuilding_replaces_the_old_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    build(store, "old")
    build(store, "new", {"changed": True})
    assert (tmp_path / "a" / "one" / "text").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["one"]


def test_a_failed_build_leaves_the_finished_artifact_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    build(store, "old")

    def fail(work: Path) -> None:
        (work / "text").write_text("half")
        raise PrefdeltaError("bad input")

    with pytest.raises(PrefdeltaError, match="bad input"):
        store.build("a/one", stage="stage", config={"k": 2}, inputs={}, make=fail)
    assert (tmp_path / "a" / "one" / "text").read_text() == "old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["one"]


def test_a_failure_keeps_progress_only_where_it_can_be_resumed(tmp_path: Path) -> None:
    def fail(work: Path) -> None:
        (work / "shard").write_text("done")
        raise PrefdeltaError("the model is gone")

    def fail_at_once(work: Path) -> None:
        raise PrefdeltaError("bad input")

    store = Store(tmp_path)
    for name, make, resume, left in (
        ("a", fail, True, True),
        ("b", fail, False, False),
        ("c", fail_at_once, True, False),
    ):
        with pytest.raises(PrefdeltaError):
            store.build(name, stage="s", config={}, inputs={}, make=make, resume=resume)
        assert (tmp_path / f".{name}.partial").exists() is left


def test_an_error_while_reading_is_not_called_a_failure_to_write(tmp_path: Path) -> None:
    def read(work: Path) -> None:
        (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError):
        Store(tmp_path).build("one", stage="s", config={}, inputs={}, make=read)


def test_a_killed_build_is_resumed_only_where_asked_and_under_the_same_key(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from prefdelta.core.store import Store
        def make(work):
            (work / "progress").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        Store(Path({str(tmp_path)!r})).build("one", stage="s", config={{}}, inputs={{}}, make=make, resume=True)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    seen: list[list[str]] = []

    def make(work: Path) -> None:
        seen.append(sorted(path.name for path in work.iterdir() if not path.name.startswith(".")))
        (work / "progress").unlink(missing_ok=True)
        (work / "result").write_text("done")

    store = Store(tmp_path)
    partial = tmp_path / ".one.partial"
    copies = {name: {path.name: path.read_text() for path in partial.iterdir()} for name in ("kept",)}
    store.build("one", stage="s", config={}, inputs={}, make=make, resume=True)
    assert seen == [["progress"]]
    assert not partial.exists()

    for config, resume in (({"other": 1}, True), ({}, False)):
        partial.mkdir()
        for name, text in copies["kept"].items():
            (partial / name).write_text(text)
        store.build("one", stage="s", config=config, inputs={}, make=make, resume=resume)
    assert seen == [["progress"], [], []]


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder should be")
    with pytest.raises(PrefdeltaError, match="cannot write"):
        build(Store(tmp_path), "text")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to stand for a full disk")
def test_a_full_disk_is_one_sentence_and_leaves_no_artifact(tmp_path: Path) -> None:
    def fill(work: Path) -> None:
        with open("/dev/full", "w") as handle:
            handle.write("x" * 10_000)

    with pytest.raises(PrefdeltaError, match="No space left"):
        Store(tmp_path).build("one", stage="s", config={}, inputs={}, make=fill)
    assert not (tmp_path / "one").exists()


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    artifact = build(Store(tmp_path), "text")
    (artifact.path / "manifest.json").write_text("{")
    with pytest.raises(PrefdeltaError, match=r"manifest\.json is missing or damaged"):
        Store(tmp_path).get("a/one")


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "", ".", "a/..", "link/out"])
def test_no_artifact_lies_outside_the_root(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path)
    with pytest.raises(PrefdeltaError, match="would lie outside"):
        store.build(name, stage="stage", config={}, inputs={}, make=lambda work: None)
    with pytest.raises(PrefdeltaError, match="would lie outside"):
        store.find(name, stage="stage", config={}, inputs={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("damaged", ["text", "manifest.json"])
def test_a_damaged_artifact_steps_aside(tmp_path: Path, damaged: str) -> None:
    told = list[str]()
    store = Store(tmp_path, told=told.append)
    artifact = build(store, "text")
    asked = {"stage": "stage", "config": {}, "inputs": {}}
    assert store.reuse("a/one", **asked) == artifact
    (artifact.path / damaged).write_text("tex")
    assert store.reuse("a/one", **asked) is None
    aside = tmp_path / "a" / ".one.damaged-1"
    assert (aside / damaged).read_text() == "tex"
    assert len(told) == 1
    assert str(artifact.path / damaged) in told[0]
    assert str(aside) in told[0]
    entry = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-1])
    assert (entry["event"], entry["artifact"], entry["aside"]) == ("damaged", "a/one", "a/.one.damaged-1")


def test_a_torn_journal_costs_its_last_line_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.log(event="one")
    with (tmp_path / "journal.jsonl").open("a") as handle:
        handle.write('{"event": "to')
    store.log(event="two")
    first, torn, last = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert (json.loads(first)["event"], torn, json.loads(last)["event"]) == ("one", '{"event": "to', "two")


def test_replacing_text_never_leaves_a_part(tmp_path: Path) -> None:
    target = tmp_path / "file"
    replace_text(target, "old")
    os.chmod(tmp_path, 0o700)
    replace_text(target, "new")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_journal_says_what_was_built(tmp_path: Path) -> None:
    build(Store(tmp_path), "text")
    (line,) = (tmp_path / "journal.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["artifact"], entry["stage"]) == ("built", "a/one", "stage")


def test_two_processes_never_work_in_one_run_directory(tmp_path: Path) -> None:
    code = "from pathlib import Path; from prefdelta.core.store import Store\n"
    code += f"with Store(Path({str(tmp_path)!r})).locked(): print('in')"
    with Store(tmp_path).locked():
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is at work in" in second.stderr
    assert second.stdout == ""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "in\n"
