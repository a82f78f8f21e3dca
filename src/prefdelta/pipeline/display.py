"""Showing how far long work is."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Display:
    """Two bars, the whole run and the unit at work; only the second where there is just one unit.

    With several workers each has a bar for its unit, its lane.

    Args:
        console: where to draw; nowhere if ``None``.
        units: how many units the run has.
        lanes: how many of them are made at the same time.
    """

    def __init__(self, console: Console | None, units: int = 1, lanes: int = 1) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console or Console(quiet=True),
            disable=console is None,
        )
        self._total: TaskID = self._progress.add_task("whole run", total=units, visible=units > 1)
        self._units: list[TaskID] = [self._progress.add_task("", total=None) for _ in range(lanes)]

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, name: str, lane: int = 0) -> None:
        """A unit begins."""
        self._progress.reset(self._units[lane], description=name, total=None)

    def inner(self, done: int, total: int, lane: int = 0) -> None:
        """The unit at work has come so far."""
        self._progress.update(self._units[lane], completed=done, total=total)

    def finish(self) -> None:
        """A unit is made."""
        self._progress.advance(self._total)
