"""Making one unit's artifact, or all of a plan's in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdelta.pipeline.display import Display
from prefdelta.pipeline.unit import Unit, Workbench
from prefdelta.store import Artifact, Store


def execute(units: list[Unit], store: Store, bench: Workbench, display: Display | None = None) -> dict[str, Artifact]:
    """Make every unit's artifact, in order, skipping those that are there; returns all of them by name."""
    artifacts: dict[str, Artifact] = {}
    for unit in units:
        if display:
            display.start(unit.name)
        artifacts[unit.name] = make(unit, store, artifacts, bench)
        if display:
            display.finish()
    return artifacts


def make(
    unit: Unit, store: Store, artifacts: Mapping[str, Artifact], bench: Workbench, *, name: str | None = None
) -> Artifact:
    """Make one unit's artifact, or return the one that is there; ``name`` puts it elsewhere than the unit says."""
    name = name or unit.name
    inputs = {label: artifacts[name] for label, name in unit.inputs.items()}
    config = _config(unit)
    found = store.find(name, stage=unit.stage, config=config, inputs=inputs)
    if found:
        return found
    return store.build(
        name,
        stage=unit.stage,
        config=config,
        inputs=inputs,
        make=lambda work: unit.make(work, inputs, bench),
        resume=unit.resumable,
    )


def assist(unit: Unit, store: Store, name: str) -> None:
    """Take part in making a unit without inputs, in the working folder of the process that makes it."""
    if store.find(name, stage=unit.stage, config=_config(unit), inputs={}) is None:
        unit.make(store.working(name), {}, Workbench())


def _config(unit: Unit) -> dict[str, Any]:
    return {**unit.config, "externals": {label: hashed() for label, hashed in sorted(unit.externals.items())}}
