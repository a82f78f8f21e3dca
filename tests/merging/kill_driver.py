"""Run a prefdelta command again and again, killed at one step of its work with files after the other.

``python kill_driver.py FOLDER OLD COMMANDS LAST``: a step is a file of FOLDER opened, a folder of it made, renamed or
removed. For each of the LAST steps of the first command, FOLDER/out is a copy of the folder OLD (nothing, if OLD is
empty), the first command is killed by SIGKILL at that step, and then the others run. Prints what was found after each
as JSON.

Children are forked before torch has computed anything, so that its thread pools do not exist yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from transformers.models.qwen3 import modeling_qwen3  # noqa: F401  (what commands import late, once for all children)

from prefdelta.cli import apply, main, merge  # noqa: F401

_EVENTS = ("open", "os.mkdir", "os.rename", "os.rmdir", "shutil.rmtree", "tempfile.mkdtemp")


def forked(folder: Path, words: list[str], die_at: int | None = None) -> tuple[int, int]:
    """Run a command in a child; its wait status, and how many steps it took."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child:
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            steps = len(pipe.read())
        return os.waitpid(child, 0)[1], steps
    taken = 0

    def step(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal taken
        if event not in _EVENTS or not str(arguments[0]).startswith(str(folder)):
            return
        taken += 1
        os.write(write_end, b".")
        if taken == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    sys.argv = ["prefdelta", *words]
    sys.addaudithook(step)
    code = 99
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os._exit(code)  # a child is not to run what the parent has still to do


def content(folder: Path) -> dict[str, str] | None:
    if not folder.exists():
        return None
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def trial(folder: Path, old: str, commands: list[list[str]], die_at: int | None) -> dict[str, object]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if old:
        shutil.copytree(old, folder / "out")
    status, steps = forked(folder, commands[0], die_at)
    found: dict[str, object] = {"steps": steps, "killed": os.WIFSIGNALED(status), "after": content(folder / "out")}
    found["hidden"] = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    then: list[dict[str, object]] = []
    for words in commands[1:]:
        code = os.waitstatus_to_exitcode(forked(folder, words)[0])
        left = sorted(path.name for path in folder.iterdir())
        then += [{"exit": code, "after": content(folder / "out"), "left": left}]
    return {**found, "then": then}


if __name__ == "__main__":
    place, script = Path(sys.argv[1]), json.loads(sys.argv[3])
    undisturbed = trial(place, sys.argv[2], script, None)
    every = range(1, int(str(undisturbed["steps"])) + 1)
    trials = [trial(place, sys.argv[2], script, die_at) for die_at in every[-int(sys.argv[4]) :]]
    print(json.dumps({"undisturbed": undisturbed, "trials": trials}))
