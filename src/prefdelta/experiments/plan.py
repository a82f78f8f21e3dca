"""A plan: what a recipe of one kind is to do, in which order, and what is told of it before and after."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.unit import Unit

if TYPE_CHECKING:
    from prefdelta.experiments.estimate import TrainingMemory

REPORT = "report.html"
PICTURE = "result.svg"
TABLE = "results.md"
FRONT = "preference.svg"


class Plan(ABC):
    """The units of one recipe, in an order in which every unit finds its inputs made."""

    units: list[Unit]

    @abstractmethod
    def table(self) -> RenderableType:
        """What a run would do and roughly needs, for a dry run; touches neither the network nor any weights."""

    @property
    def memory(self) -> list[TrainingMemory | None]:
        """What each kind of training holds, ``None`` where the student's size is unknown."""
        return []

    @property
    def warnings(self) -> list[str]:
        """What the settings will probably come to that nobody wants, a sentence each."""
        return []

    @abstractmethod
    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write what a finished run has to say; returns the path of the report.

        Raises:
            OSError: a file cannot be written.
        """
