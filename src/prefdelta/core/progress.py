"""The terminal: what commands print to, and progress bars of long work."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from prefdelta.core.errors import PrefdeltaWarning
from prefdelta.core.names import visible

_QUIET = 30.0  # seconds between plain lines
_with_source_line = warnings.showwarning


class _Terminal(Console):
    """A console that nobody's text steers, and that breaks no line of text: a path stays whole in a log."""

    def print(self, *objects: Any, **style: Any) -> None:
        super().print(*objects, **{"soft_wrap": all(isinstance(each, str) for each in objects), **style})

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str(visible(text), **style)


def terminal(*, stderr: bool = False) -> Console:
    """Where commands print. Brackets, colons and control characters in what users call things are letters."""
    return _Terminal(stderr=stderr, markup=False, emoji=False, highlight=False)


def warn_in_words() -> None:
    """Tell our warnings in one line each, and leave those to developers out, which the libraries give.

    For a process of our own: it changes Python's filters and hook.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    warnings.simplefilter("always", PrefdeltaWarning)
    warnings.showwarning = _told


def _told(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, PrefdeltaWarning):
        print(f"prefdelta: warning: {visible(str(message))}", file=sys.stderr)
    else:
        _with_source_line(message, category, filename, lineno, file, line)


class Display:
    """Two bars, the whole run and the unit at work; only the second where there is just one unit.

    Where several are at work at the same time, each has a bar, its lane. Where there is no terminal (a log file, CI), a
    plain line tells every half minute how far the work has come.

    Args:
        console: where to draw; nowhere if ``None``.
        units: how many units the run has.
        clock: seconds, for the plain lines.
    """

    def __init__(self, console: Console | None, units: int = 1, *, clock: Callable[[], float] = time.monotonic) -> None:
        plain = console is not None and not console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console or Console(quiet=True),
            disable=console is None or plain,
        )
        self._total: TaskID = self._progress.add_task("whole run", total=units, visible=units > 1)
        self._units: list[TaskID] = []
        self._clock = clock if plain else None
        self._made = 0
        self._count = units
        self._names: dict[int, str] = {}
        self._said = self._began = clock()

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, name: str, lane: int = 0) -> None:
        """A unit begins."""
        while len(self._units) <= lane:
            self._units.append(self._progress.add_task("", total=None))
        self._progress.reset(self._units[lane], description=name)
        self._progress.tasks[self._units[lane]].total = None  # not that of the unit before
        self._names[lane] = name

    def inner(self, done: int, total: int, lane: int = 0) -> None:
        """The unit at work has come so far."""
        self._progress.update(self._units[lane], completed=done, total=total)
        self._say(f"{self._names[lane]}: {done} of {total}")

    def tell(self, sentence: str) -> None:
        """Say something above the bars, where they are shown."""
        self._progress.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def more(self, units: int) -> None:
        """The run has more units than was known."""
        self._count += units
        self._progress.update(self._total, total=self._count)

    def finish(self) -> None:
        """A unit is made."""
        self._progress.advance(self._total)
        self._made += 1
        if self._count > 1:
            self._say(f"made {self._made} of {self._count}", last=self._made == self._count)

    def _say(self, line: str, *, last: bool = False) -> None:
        """Tell a plain line with the time since the beginning, unless one was told just now."""
        if self._clock is None:
            return
        now = self._clock()
        if last or now - self._said >= _QUIET:
            self._said = now
            self.tell(f"{line} ({timedelta(seconds=int(now - self._began))})")
