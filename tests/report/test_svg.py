"""The marks of an axis: round numbers, about as many as asked for, that hold all values."""

from __future__ import annotations

import pytest

from prefdelta.report.svg import ticks


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (31.0, 62.4, [30, 40, 50, 60, 70]),
        (50.0, 50.0, [50, 51]),
        (0.0, 900.0, [50 * place for place in range(19)]),
        (-0.69, -0.62, [-0.7, -0.68, -0.66, -0.64, -0.62]),
        (0.3, 0.31, [0.3, 0.302, 0.304, 0.306, 0.308, 0.31]),
    ],
)
def test_marks_are_round_and_hold_the_values(low: float, high: float, marks: list[float]) -> None:
    assert ticks(low, high) == marks
