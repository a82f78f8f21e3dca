"""A folder that appears whole or not at all, and what becomes of the remains of killed runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prefdelta.adapter import staged_folder
from prefdelta.errors import PrefdeltaError

KILLED = """
import os, signal, sys
from pathlib import Path
from prefdelta.adapter import staged_folder
with staged_folder(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_next_run_clears_away_what_a_killed_one_left(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].startswith(".out.")
    with staged_folder(tmp_path / "out") as staging:
        assert names(tmp_path) == [staging.name]
        (staging / "file").write_text("whole")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["file"]


def test_a_living_run_keeps_its_folder(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", overwrite=True) as slow:
        (slow / "file").write_text("slow")
        with staged_folder(tmp_path / "out") as quick:
            (quick / "file").write_text("quick")
        assert (slow / "file").read_text() == "slow"
        assert (tmp_path / "out" / "file").read_text() == "quick"
    assert (tmp_path / "out" / "file").read_text() == "slow"
    assert names(tmp_path) == ["out"]


def test_only_remains_of_the_same_target_are_cleared(tmp_path: Path) -> None:
    kept = [".out2.partial-abc", ".out.b.partial-abc", ".out.old", "out.partial-abc", ".[o]ut.partial-abc"]
    for name in (*kept, ".out.partial-abc"):
        (tmp_path / name).mkdir()
    with staged_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == sorted([*kept, "out"])
    with staged_folder(tmp_path / "[o]ut"):
        pass
    assert names(tmp_path) == sorted([*kept[:-1], "[o]ut", "out"])


def test_an_old_folder_that_was_moved_aside_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".out.aside-abc").mkdir()
    (tmp_path / ".out.aside-abc" / "old").write_text("old")
    with pytest.raises(PrefdeltaError, match="not empty"), staged_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "old").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")

    def fail() -> None:
        with staged_folder(tmp_path / "out", overwrite=True) as staging:
            (staging / "new").write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]
