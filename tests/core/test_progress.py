"""Progress of long work: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import warnings

import pytest
from rich.console import Console

from prefdelta.core.errors import PrefdeltaWarning
from prefdelta.core.progress import Display, terminal, warn_in_words


def told(*, terminal: bool, step: float) -> str:
    """What a run of two units with ten steps each tells, one step every ``step`` seconds."""
    file = io.StringIO()
    now = [0.0]
    with Display(Console(file=file, force_terminal=terminal, width=60), 2, clock=lambda: now[0]) as display:
        for name in ("pairs/[a]", "adapters/b"):
            display.start(name)
            for done in range(1, 11):
                now[0] += step
                display.inner(done, 10)
            display.finish()
    return file.getvalue()


def test_without_a_terminal_a_plain_line_is_told_every_half_minute() -> None:
    assert told(terminal=False, step=20).splitlines() == [
        "pairs/[a]: 2 of 10 (0:00:40)",
        "pairs/[a]: 4 of 10 (0:01:20)",
        "pairs/[a]: 6 of 10 (0:02:00)",
        "pairs/[a]: 8 of 10 (0:02:40)",
        "pairs/[a]: 10 of 10 (0:03:20)",
        "adapters/b: 2 of 10 (0:04:00)",
        "adapters/b: 4 of 10 (0:04:40)",
        "adapters/b: 6 of 10 (0:05:20)",
        "adapters/b: 8 of 10 (0:06:00)",
        "adapters/b: 10 of 10 (0:06:40)",
        "made 2 of 2 (0:06:40)",
    ]


def test_what_is_quick_is_told_at_its_end_only() -> None:
    assert told(terminal=False, step=0.1).splitlines() == ["made 2 of 2 (0:00:02)"]


def test_in_a_terminal_there_are_bars_and_no_lines() -> None:
    shown = told(terminal=True, step=20)
    assert "whole run" in shown
    assert "10 of 10" not in shown


def test_a_unit_does_not_begin_with_the_steps_of_the_one_before() -> None:
    file = io.StringIO()
    with Display(Console(file=file, force_terminal=True, width=60), clock=lambda: 0.0) as display:
        display.start("first")
        display.inner(3, 500)
        display.start("second")
    last = file.getvalue().rpartition("second")[2]
    assert "0/?" in last
    assert "500" not in last


def test_a_text_is_not_broken_where_it_is_longer_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    path = "/a/folder with spaces/" + "x" * 40
    terminal().print(f"adapter: {path}", style="yellow")
    assert capsys.readouterr().out == f"adapter: {path}\n"


def test_our_warnings_are_one_line_and_those_for_developers_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warn_in_words()
        warnings.warn("1.6\u00a0% are so\x1b[31m", PrefdeltaWarning, stacklevel=1)
        warnings.warn("deprecated", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == "prefdelta: warning: 1.6\u00a0% are so\\x1b[31m\n"
