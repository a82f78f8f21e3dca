"""What an output may replace, folders that appear whole or not at all, remains of killed runs, and damage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import damage, foreign_files, read_manifest
from prefdelta.core.outputs import check_file, check_output, locked, staged_folder, write_output

KILLED = """
import os, signal, sys
from pathlib import Path
from prefdelta.core.outputs import staged_folder
with staged_folder(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ours(folder: Path, text: str = "old") -> Path:
    with staged_folder(folder) as staging:
        (staging / "file").write_text(text)
    return folder


def test_a_folder_of_ours_is_replaced_only_where_asked(tmp_path: Path) -> None:
    target = ours(tmp_path / "out")
    assert names(target) == ["file", "manifest.json"]
    with pytest.raises(PrefdeltaError, match="not empty"), staged_folder(target):
        pass
    with staged_folder(target, overwrite=True) as staging:
        (staging / "other").write_text("new")
    assert names(target) == ["manifest.json", "other"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["keep.txt", ".hidden", "deep/er/keep.txt", "manifest.json"])
def test_nothing_that_others_wrote_is_replaced(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    (target / name).parent.mkdir(parents=True)
    (target / name).write_text('{"files": {}, "content": "x"}')
    with pytest.raises(PrefdeltaError, match=r"did not write|not prefdelta's"), staged_folder(target, overwrite=True):
        pass
    assert (target / name).read_text() == '{"files": {}, "content": "x"}'


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_that_somebody_put_into_a_folder_of_ours_is_not_lost(tmp_path: Path, kind: str) -> None:
    target, note = ours(tmp_path / "out"), tmp_path / "out" / "note"

    def put() -> None:
        # Even while the new folder is being made.
        with staged_folder(target, overwrite=True):
            if kind == "file":
                note.write_text("mine")
            else:
                note.symlink_to(tmp_path)

    with pytest.raises(PrefdeltaError, match=r"did not write \(note\)"):
        put()
    assert os.path.lexists(note)
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_output_is_no_link_no_input_and_not_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, real, here = tmp_path / "home" / "me", tmp_path / "real", tmp_path / "a" / "here"
    for folder in (home, real, here):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (real / "data.jsonl").write_text("{}")
    (tmp_path / "alias").symlink_to(real / "data.jsonl")
    for target, words in (
        (tmp_path / "link", "is a link"),
        (tmp_path / "broken", "is a link"),
        (Path("."), "current folder"),
        (Path(".."), "current folder"),
        (here, "current folder"),
        (Path("/"), "current folder"),
        (Path("sub/../.."), "current folder"),
        (Path("new/sub/.."), "ends in"),
        (Path("~/out"), "begins with"),
        (Path("s3://bucket/out"), "is an address, which only `prefdelta run` takes"),
        (home, "home folder"),
        (tmp_path / "home", "home folder"),
        (real, "would replace the input"),
        (real / "data.jsonl", "would replace the input"),
        (Path("x" * 300), "cannot write"),
        (Path("zero\0byte"), "cannot write"),
        (real / "data.jsonl" / "under", "cannot write"),
    ):
        for check in (check_output, check_file):
            if words == "cannot write" and "data" in str(target):
                continue
            with pytest.raises(PrefdeltaError, match=words):
                check(target, inputs=[tmp_path / "alias", real / "data.jsonl"], overwrite=True)
    with pytest.raises(PrefdeltaError, match="cannot write"), staged_folder(real / "data.jsonl" / "under"):
        pass
    check_output(real / "new", inputs=[real / "data.jsonl", "no/such/input"])
    check_output(tmp_path / "home" / "new")


def test_a_file_is_replaced_only_where_asked(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_output(target, "first")
    with pytest.raises(PrefdeltaError, match="is there already"):
        write_output(target, "second")
    assert target.read_text() == "first"
    write_output(target, b"second", overwrite=True)
    assert target.read_text() == "second"
    with pytest.raises(PrefdeltaError, match="is a folder"):
        write_output(tmp_path, "text", overwrite=True)
    assert names(tmp_path) == ["page.html"]


def test_the_next_run_clears_away_what_a_killed_one_left(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert names(tmp_path) == [".out.lock", ".out.partial"]
    with staged_folder(tmp_path / "out") as staging:
        assert not (staging / "half").exists()
        (staging / "file").write_text("whole")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", [".out.partial", ".out.stale"])
def test_a_hidden_folder_of_somebody_elses_is_not_taken_for_remains(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "keep").write_text("mine")
    with pytest.raises(PrefdeltaError, match="is in the way"), staged_folder(tmp_path / "out"):
        pass
    assert (tmp_path / name / "keep").read_text() == "mine"


def test_an_old_folder_that_had_stepped_aside_is_put_back(tmp_path: Path) -> None:
    ours(tmp_path / "out").rename(tmp_path / ".out.stale")
    with pytest.raises(PrefdeltaError, match="not empty"), staged_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    ours(tmp_path / "out")

    def fail() -> None:
        with staged_folder(tmp_path / "out", overwrite=True) as staging:
            (staging / "new").write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "old"


def test_two_processes_never_make_one_output(tmp_path: Path) -> None:
    code = "from pathlib import Path; from prefdelta.core.outputs import locked\n"
    code += f"with locked(Path({str(tmp_path)!r}, 'out')): print('in')"
    with locked(tmp_path / "out"):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is at work in" in second.stderr
    assert second.stdout == ""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "in\n"
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["flipped", "torn", "null", "deep", "empty"])
def test_a_folder_whose_manifest_is_damaged_is_not_replaced_and_is_told(tmp_path: Path, kind: str) -> None:
    manifest = ours(tmp_path / "out") / "manifest.json"
    whole = manifest.read_bytes()
    bad = {
        "flipped": whole.replace(b"2", b"3", 1),
        "torn": whole[:50],
        "null": b"null",
        "deep": b"[" * 10**5,
        "empty": b"",
    }
    manifest.write_bytes(bad[kind])
    with pytest.raises(PrefdeltaError, match=r"manifest\.json is damaged"):
        check_output(tmp_path / "out", overwrite=True)


def test_progress_whose_key_is_damaged_is_not_gone_on_with(tmp_path: Path) -> None:
    working = tmp_path / ".out.partial"
    working.mkdir()
    (working / ".key").write_bytes(b"\xff\xfe")
    (working / "half").write_text("half")
    with staged_folder(tmp_path / "out", key="k") as staging:
        assert names(staging) == [".key"]
    assert names(tmp_path) == ["out"]


def test_a_lock_never_removes_a_file_of_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").write_text("mine")
    with locked(tmp_path / "out"):
        pass
    assert (tmp_path / ".out.lock").read_text() == "mine"


def test_every_kind_of_damage_is_told(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with staged_folder(target) as staging:
        for name in ("flipped", "short", "gone", "whole"):
            (staging / name).write_text("0123456789")
    assert damage(target) == foreign_files(target) == []
    (target / "flipped").write_text("0123456798")
    (target / "short").write_text("0123")
    (target / "gone").unlink()
    (target / "extra").write_text("x")
    assert [line.replace(f"{target}/", "") for line in damage(target)] == [
        "flipped was changed after it was written",
        "gone is missing",
        "short has 4 bytes instead of 10",
    ]
    assert foreign_files(target) == ["extra"]


def test_a_manifest_that_was_changed_anywhere_is_none(tmp_path: Path) -> None:
    manifest = ours(tmp_path / "out") / "manifest.json"
    written = manifest.read_bytes()
    assert read_manifest(tmp_path / "out") is not None
    for place in range(len(written)):
        flipped = bytearray(written)
        flipped[place] ^= 1
        manifest.write_bytes(flipped)
        assert read_manifest(tmp_path / "out") is None or written[place : place + 1].isspace()
    manifest.write_bytes(written[: len(written) // 2])
    assert damage(tmp_path / "out") == [f"{manifest} is missing or damaged"]


def test_an_input_that_is_a_link_to_itself_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    check_output(tmp_path / "out", inputs=[tmp_path / "loop"])
    with pytest.raises(PrefdeltaError, match="is a link"):
        check_output(tmp_path / "loop")
