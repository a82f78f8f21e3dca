"""Making one artifact from files that a user names, outside a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from prefdelta.core.files import expanded
from prefdelta.core.manifests import check_as_written
from prefdelta.core.model_files import fingerprint
from prefdelta.core.outputs import check_output, locked
from prefdelta.core.progress import Display
from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.execution.make import assist, build, reuse
from prefdelta.experiments.identity import path_digest
from prefdelta.experiments.unit import RunContext, Unit
from prefdelta.recipe import ModelRef

ORIGIN = "--set"
"""What messages about a setting of a command begin with."""


def single_unit(
    stage: str,
    *,
    config: Mapping[str, Any],
    files: Mapping[str, str | None],
    build: Any,
    models: Mapping[str, ModelRef] | None = None,
    externals: Mapping[str, Callable[[], str]] | None = None,
    reads: Sequence[str] = (),
) -> Unit:
    """A unit whose inputs are files and models that a user names.

    Args:
        stage: what is made.
        config: all settings that decide its content.
        files: label -> path of a file or folder that is read, if it is given; ``micro:NAME`` is none.
        build: ``(working folder, context)``, writes the artifact's files.
        models: label -> model that is read.
        externals: label -> hash of anything else.
        reads: what else is read, so that the output is never placed there.
    """
    named = {label: path for label, path in files.items() if path is not None and not path.startswith("micro:")}
    return Unit(
        name="",
        stage=stage,
        config=config,
        inputs={},
        externals={
            **{label: partial(path_digest, path) for label, path in named.items()},
            **{label: partial(fingerprint, ref) for label, ref in (models or {}).items()},
            **(externals or {}),
        },
        reads=(*named.values(), *reads, *(ref.path for ref in (models or {}).values())),
        make=lambda work, inputs, context: build(work, context),
        resumable=True,
    )


def run_single(unit: Unit, output: Path, console: Console, *, overwrite: bool = False) -> Artifact:
    """Make one unit's artifact at ``output``, unless it is there already.

    Raises:
        PrefdeltaError: ``output`` may not be replaced (:func:`prefdelta.core.outputs.check_output`), another process
            is making it, the unit refuses its input, or a file that it reads is ours and was changed since.
    """
    unit = replace(unit, name=output.name)
    check_output(output, inputs=unit.reads, overwrite=True)
    for place in unit.reads:
        if os.path.isfile(path := expanded(place)):
            check_as_written(path)
    with locked(output), Display(console) as display:
        display.start(output.name)
        store = Store(output.parent, journal=False, told=display.tell)
        context = RunContext(display.inner, display.tell)
        try:
            artifact = reuse(unit, store, {}) or build(unit, store, {}, context, overwrite=overwrite)
        finally:
            context.release()
        display.finish()
    return artifact


def assists() -> bool:
    """Whether this is not the first of several processes (``accelerate launch``, ``torchrun``) that share the work."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")) > 0


def assist_single(unit: Unit, output: Path) -> None:
    """Do this process's share of the unit that the first one makes with :func:`run_single`."""
    assist(replace(unit, name=output.name), Store(output.parent, journal=False))
