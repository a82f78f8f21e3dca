"""Heat maps of layers x modules in SVG, all on one colour scale."""

from __future__ import annotations

from collections.abc import Sequence

from prefdelta.report.matrix_layout import lay_out
from prefdelta.report.svg import element, text, title

STYLE = """
svg.map{height:auto;display:block;max-width:100%}
svg.map text{fill:var(--muted);font-size:10px}
svg.map rect.cell{stroke:var(--rule);stroke-width:1}
svg.map rect.pos{fill:rgb(var(--tint))}svg.map rect.neg{fill:var(--warm)}
svg.map rect.none{fill:none;stroke-dasharray:1.5 2}
:root{--warm:#d4500c}@media(prefers-color-scheme:dark){:root{--warm:#ff8a4a}}
"""

_CELL = 15
_LETTER = 5.8  # width of a 10 px letter, on average
_LEGEND = (-1.0, -0.5, -0.25, -0.1, -0.02, 0.0, 0.02, 0.1, 0.25, 0.5, 1.0)


def draw_map(modules: Sequence[str], values: Sequence[float | None], caption: str) -> str:
    """One map: a value in [-1, 1] per module, ``None`` where there is none; a pointer shows module and number."""
    layout = lay_out(modules)
    left = 8 + max(len(row) for row in layout.rows) * _LETTER
    width, bottom = left + len(layout.columns) * _CELL + 2, len(layout.rows) * _CELL + 2
    parts = [text(row, left - 5, number * _CELL + 12, text_anchor="end") for number, row in enumerate(layout.rows)]
    step = 1 if len(layout.columns) <= 12 else 4
    parts += [
        text(column, left + (number + 0.5) * _CELL, bottom + 11, text_anchor="middle")
        for number, column in enumerate(layout.columns)
        if number % step == 0 or column == "–"
    ]
    for (row, column), value, module in zip(layout.places, values, modules, strict=True):
        shown = "none" if value is None else f"{value:+.3f}"
        parts.append(_cell(left + column * _CELL, row * _CELL + 1, value, f"{module}: {shown}"))
    return element(
        "svg", "".join(parts), class_="map", viewBox=f"0 0 {width:.0f} {bottom + 16}", width=f"{width:.0f}",
        role="img", aria_label=caption,
    )  # fmt: skip


def draw_legend() -> str:
    """The scale that all maps share: strength grows as the square root, so that small values are seen."""
    parts = []
    for number, value in enumerate(_LEGEND):
        parts.append(_cell(number * 38 + 12, 1, value, f"{value:+g}"))
        parts.append(text(f"{value:+g}" if value else "0", number * 38 + 12 + _CELL / 2, 30, text_anchor="middle"))
    width = len(_LEGEND) * 38
    return element(
        "svg", "".join(parts), class_="map", viewBox=f"0 0 {width} 34", width=str(width), role="img",
        aria_label="colour scale from -1 to 1",
    )  # fmt: skip


def _cell(x: float, y: float, value: float | None, words: str) -> str:
    side = _CELL - 2
    if value is None:
        return element("rect", title(words), x=x, y=y, width=side, height=side, class_="cell none")
    strength = min(abs(value), 1.0) ** 0.5
    sign = "neg" if value < 0 else "pos"
    return element(
        "rect", title(words), x=x, y=y, width=side, height=side, class_=f"cell {sign}", fill_opacity=strength
    )
