"""Making one artifact at a place that the user names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefdelta.core.progress import terminal

if TYPE_CHECKING:
    from prefdelta.experiments.unit import Unit


def single(unit: Unit, output: Path, overwrite: bool) -> None:
    """Make a unit's artifact, unless it is there already, and say where it is."""
    from prefdelta.experiments.single.unit import run_single

    artifact = run_single(unit, output, terminal(), overwrite=overwrite)
    terminal().print(f"{unit.stage}: {artifact.path}")
