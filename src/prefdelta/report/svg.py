"""Just enough SVG: elements as text, with escaped content and short numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape


def element(tag: str, content: str = "", /, **attributes: str | float) -> str:
    """An element. ``_`` in attribute names stands for ``-``; a trailing one is dropped (``class_``)."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"' for name, value in attributes.items()
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def text(words: str, x: float, y: float, **attributes: str | float) -> str:
    """A line of text."""
    return element("text", escape(words), **{"x": x, "y": y, **attributes})


def title(words: str) -> str:
    """What a pointer shows when it rests on the element this is in."""
    return element("title", escape(words))


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float) -> str:
    """A straight line."""
    return element("line", **{"x1": x1, "y1": y1, "x2": x2, "y2": y2, **attributes})


def ticks(low: float, high: float, at_most: int = 6) -> Sequence[float]:
    """Round numbers that cover [low, high] in about so many steps; two at least."""
    steps: Sequence[float] = (1, 2, 5, 10, 20, 25, 50)
    if 0 < high - low < 1:
        steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    step = next((step for step in steps if (high - low) / step <= at_most), steps[-1])
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [round(step * place, 3) for place in range(first, last + 1)]


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
