"""Commands killed at any step of their work with files: nothing half-made is ever seen, the next run gives the same.

A step is a file opened to be written, or a file or folder made, renamed or removed. What is only read leaves the disk
as it was, so a kill there is one at the next step.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lora_fixtures import save_lora, tiny_qwen
from prefdelta.cli import main
from prefdelta.merging import baking, merge  # noqa: F401 (what commands import late, once for all of them)
from whole_runs import forked

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "tempfile.mkdtemp")
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Trial:
    """What was found after a command, and after each of those that followed it.

    Attributes:
        after: file -> its hash; ``None`` where there was no output.
        hidden: names in the folder that begin with a dot.
        then: exit code, hashes and all names in the folder, after each command that followed.
    """

    after: dict[str, str] | None
    hidden: list[str]
    then: list[tuple[int | None, dict[str, str] | None, list[str]]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    tiny_qwen().save_pretrained(folder / "base")
    for seed in (1, 2):
        save_lora(tiny_qwen(), folder / str(seed), seed, r=2, lora_alpha=4, target_modules=["q_proj"])
    return folder


def work(folder: Path, words: list[str], steps: Path, die_at: int = 0) -> Callable[[], None]:
    """A command that notes its steps in ``folder`` in a file, and kills itself just before one of them."""

    def step(event: str, arguments: tuple[object, ...]) -> None:
        changes = event in CHANGES or (event == "open" and int(str(arguments[2])) & WRITING)
        if not changes or not str(arguments[0]).startswith(str(folder)):
            return
        with steps.open("a") as notes:
            notes.write(".")
        if steps.stat().st_size == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        sys.argv = ["prefdelta", *words]
        sys.addaudithook(step)
        main()

    return run


def content(folder: Path) -> dict[str, str] | None:
    if not folder.exists():
        return None
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def trials(tmp_path: Path, old: Path | None, *commands: list[str], last: int) -> tuple[Trial, list[Trial]]:
    """The first command undisturbed, and killed at each of its ``last`` steps, each time followed by the others.

    ``place/out``, the output, is a copy of ``old`` before.
    """
    place, steps = tmp_path / "place", tmp_path / "steps"

    def trial(die_at: int) -> Trial:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if old is not None:
            shutil.copytree(old, place / "out")
        steps.write_text("")
        assert forked(work(place, commands[0], steps, die_at)) == (-signal.SIGKILL if die_at else 0)
        after, hidden = content(place / "out"), sorted(path.name for path in place.glob(".*"))
        then = []
        for words in commands[1:]:
            code = forked(work(place, words, tmp_path / "more"))
            then.append((code, content(place / "out"), sorted(path.name for path in place.iterdir())))
        return Trial(after, hidden, then)

    undisturbed = trial(0)
    count = steps.stat().st_size
    assert count > 10
    return undisturbed, [trial(die_at) for die_at in range(max(1, count - last + 1), count + 1)]


def command(name: str, inputs: Path, out: Path) -> list[str]:
    if name == "apply":
        return ["apply", str(inputs / "base"), str(inputs / "1"), "-o", str(out)]
    return ["merge", str(inputs / "1"), str(inputs / "2"), "-o", str(out), "--method", "ties"]


@pytest.mark.parametrize(("name", "last"), [("merge", 100), ("apply", 5)])
def test_a_killed_run_leaves_no_output_and_the_next_one_is_as_if_it_had_not_been(
    name: str, last: int, inputs: Path, tmp_path: Path
) -> None:
    line = command(name, inputs, tmp_path / "place" / "out")
    undisturbed, killed = trials(tmp_path, None, line, [*line, "--overwrite"], last=last)
    assert undisturbed.after
    for trial in killed:
        assert trial.after in (None, undisturbed.after)
        assert trial.then == [(0, undisturbed.after, ["out"])]
    assert any(trial.hidden for trial in killed)  # something was there to clear away


def test_a_killed_replacement_leaves_the_old_or_the_new_and_loses_neither(inputs: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    merge([inputs / "1", inputs / "2"], old, method="average", scale=2)
    was = content(old)
    line = command("merge", inputs, tmp_path / "place" / "out")
    undisturbed, killed = trials(tmp_path, old, [*line, "--overwrite"], line, [*line, "--overwrite"], last=11)
    new = undisturbed.after
    assert new != was
    for trial in killed:
        # Between two renames there is neither; the next run puts the old one back, whatever else it does.
        assert trial.after in (None, was, new)
        assert trial.then == [(2, trial.after or was, ["out"]), (0, new, ["out"])]
    assert any(trial.after is None for trial in killed)
    assert any(trial.after == was for trial in killed)
