"""Runs in processes of their own that kill themselves, as ``kill -9`` would, and what is compared between runs."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from prefdelta import store
from prefdelta.pipeline import run
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

    ``moment`` is ``publish`` (an artifact of the stage is complete but not yet in place) or ``progress`` (a unit of
    the stage has reported some progress).
    """

    def work() -> None:
        if stage:
            _arm(stage, moment)
        run.run_recipe(load_recipe(recipe), root)

    return forked(work)


def forked(work: Callable[[], object]) -> int | None:
    """The exit code of a process that does ``work``; a fork, because importing everything again takes seconds."""

    def alone() -> None:
        torch.set_num_threads(1)
        work()

    process = multiprocessing.get_context("fork").Process(target=alone)
    process.start()
    process.join()
    return process.exitcode


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(stage: str, moment: str) -> None:
    build = store.Store.build
    made: list[run.Workbench] = []

    def watched(self: store.Store, name: str, **arguments: Any) -> store.Artifact:
        if arguments["stage"] == stage:
            if moment == "publish":
                store._publish = _die
            else:
                made[-1].progress = lambda done, total: _die()
        return build(self, name, **arguments)

    class Watched(run.Workbench):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    store.Store.build = watched  # type: ignore[method-assign]
    run.Workbench = Watched  # type: ignore[misc]
