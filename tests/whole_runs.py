"""Runs and commands in processes of their own, which may kill themselves, and what is compared between runs.

They are forks, because importing everything again takes seconds.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from prefdelta.cli import main
from prefdelta.core import store
from prefdelta.experiments import run
from prefdelta.recipe import load_recipe


def hashes(root: Path) -> dict[str, str]:
    """Every file of a run but the journal, which says when things happened, the lock, and the cache."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("journal.jsonl", ".lock") and ".cache" not in path.parts
    }


def run_apart(recipe: Path, root: Path, stage: str = "", moment: str = "") -> int | None:
    """The exit code of a process that runs a recipe; with a stage, it kills itself at the first such moment.

    ``stage`` may also be the name of a unit. ``moment`` is ``publish`` (an artifact of the stage is complete but not
    yet in place) or ``progress`` (a unit of the stage has reported some progress).
    """

    def work() -> None:
        if stage:
            _arm(stage, moment)
        run.run_recipe(load_recipe(recipe), root)

    return forked(work)


def forked(work: Callable[[], object]) -> int | None:
    """The exit code of a process that does ``work``."""
    process = _started(work)
    process.join()
    return process.exitcode


def command(*words: object) -> int:
    """The exit code of a command, run in this process."""
    before, sys.argv = sys.argv, ["prefdelta", *map(str, words)]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def command_started(*words: object, told: Path, largest: int | None = None) -> BaseProcess:
    """A process that does a command, started; ``told`` is the file that becomes its stderr.

    With ``largest`` it may write no file above so many bytes: to programs that is a full disk, with another number.
    """

    def work() -> None:
        for number, path in ((1, Path(os.devnull)), (2, told)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        sys.argv = ["prefdelta", *map(str, words)]
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        main()

    return _started(work)


def _started(work: Callable[[], object]) -> BaseProcess:
    def alone() -> None:
        torch.set_num_threads(1)
        work()

    process = multiprocessing.get_context("fork").Process(target=alone)
    process.start()
    return process


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(stage: str, moment: str) -> None:
    build = store.Store.build
    made: list[run.RunContext] = []

    def watched(self: store.Store, name: str, **arguments: Any) -> store.Artifact:
        if stage in (arguments["stage"], name):
            if moment == "publish":
                store.publish = _die  # type: ignore[assignment]
            else:
                made[-1].progress = lambda done, total: _die()
        return build(self, name, **arguments)

    class Watched(run.RunContext):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    store.Store.build = watched  # type: ignore[method-assign]
    run.RunContext = Watched  # type: ignore[misc]
