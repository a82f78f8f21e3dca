"""Runs a recipe in a process of its own that kills itself, as ``kill -9`` would, at a chosen moment.

    python pipeline_driver.py RECIPE RUN_FOLDER [STAGE MOMENT]

MOMENT is ``publish`` (an artifact of STAGE is complete but not yet in place) or ``progress`` (a unit of STAGE has
reported some progress). Without them the recipe is run to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from prefdelta import store
from prefdelta.pipeline import run
from prefdelta.recipe import load_recipe


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(stage: str, moment: str) -> None:
    """Make the process kill itself at the first such moment."""
    build = store.Store.build

    def watched(self: store.Store, name: str, **arguments: Any) -> store.Artifact:
        if arguments["stage"] == stage:
            if moment == "publish":
                store._publish = die
            else:
                bench.progress = lambda done, total: die()
        return build(self, name, **arguments)

    class Watched(run.Workbench):
        def __init__(self, *arguments: Any) -> None:
            global bench
            super().__init__(*arguments)
            bench = self

    store.Store.build = watched  # type: ignore[method-assign]
    run.Workbench = Watched  # type: ignore[misc]


bench: run.Workbench

if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe, folder, *when = sys.argv[1:]
    if when:
        arm(*when)
    run.run_recipe(load_recipe(Path(recipe)), Path(folder))
