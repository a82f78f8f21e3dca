"""Making one artifact at a place that the user names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from prefdelta.pipeline.unit import Unit


def single(unit: Unit, output: Path) -> None:
    """Make a unit's artifact, unless it is there already, and say where it is."""
    from prefdelta.pipeline.single import run_single

    artifact = run_single(unit, output, Console())
    Console().print(f"{unit.stage}: {artifact.path}", highlight=False)
