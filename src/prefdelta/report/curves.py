"""The curve of validation scores over the scale λ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefdelta.report import svg

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 312, 16, 210
_LABEL_GAP = 15


def draw_scales(name: str, selection: Mapping[str, Any]) -> str:
    """Validation score over λ (logarithmic): a line per merge method, thin ones for single deltas, a ring at λ*."""
    merges = _lines(selection)
    singles = _lines(selection.get("singles", {"scores": {}}))
    values = [score for grid in [*merges.values(), *singles.values()] for _, score in grid]
    scales = sorted({scale for grid in [*merges.values(), *singles.values()] for scale, _ in grid})
    marks = svg.ticks(min(values), max(values), 5)

    def at(scale: float, score: float) -> tuple[float, float]:
        span = math.log(scales[-1] / scales[0]) or 1.0
        across = (math.log(scale / scales[0]) / span) * (_RIGHT - _LEFT)
        return _LEFT + across, _BOTTOM - (score - marks[0]) / (marks[-1] - marks[0]) * (_BOTTOM - _TOP)

    parts = []
    for mark in marks:
        y = at(scales[0], mark)[1]
        parts.append(svg.line(_LEFT, y, _RIGHT, y, class_="grid"))
        parts.append(svg.text(f"{mark:g}", _LEFT - 6, y + 4, class_="soft small", text_anchor="end"))
    for scale in scales:
        x = at(scale, marks[0])[0]
        parts.append(svg.text(f"{scale:g}", x, _BOTTOM + 16, class_="soft small", text_anchor="middle"))
    parts.append(svg.text("scale λ", (_LEFT + _RIGHT) / 2, _BOTTOM + 33, class_="soft small", text_anchor="middle"))
    for label, grid in singles.items():
        parts.append(_line("single", label, [at(*point) for point in grid]))
    ends = []
    for index, (label, grid) in enumerate(merges.items()):
        points = [at(*point) for point in grid]
        parts.append(_line(f"merge m{index % 4}", label, points))
        chosen = at(selection["best_scale"][label], dict(grid)[selection["best_scale"][label]])
        ring = svg.element("circle", svg.title(f"{label}: chosen λ"), cx=chosen[0], cy=chosen[1], r=5, class_="open")
        parts.append(svg.element("g", ring, class_=f"merge m{index % 4}"))
        ends.append((points[-1][1], label, index))
    parts += _labels(ends, strong=selection["best_merge"])
    if singles:
        parts.append(svg.text("thin: single deltas", _RIGHT + 10, _BOTTOM + 16, class_="soft small"))
    return svg.element(
        "svg",
        svg.title(f"Validation score over the scale in {name}") + "".join(parts),
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
    )


def _lines(selection: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    return {
        name: sorted((float(scale), score) for scale, score in grid.items())
        for name, grid in selection["scores"].items()
    }


def _line(kind: str, label: str, points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{round(x, 2):g},{round(y, 2):g}" for x, y in points)
    return svg.element("g", svg.element("polyline", svg.title(label), points=path, class_="curve"), class_=kind)


def _labels(ends: Sequence[tuple[float, str, int]], *, strong: str) -> list[str]:
    """Names beside the ends of their lines, pushed down where they would overlap, then up if they leave the chart."""
    placed: list[float] = []
    for y, _, _ in sorted(ends):
        placed.append(max(y, placed[-1] + _LABEL_GAP) if placed else y)
    excess = max(0.0, placed[-1] - _BOTTOM) if placed else 0.0
    return [
        svg.element(
            "g",
            svg.text(name, _RIGHT + 10, y - excess + 4, class_="label strong" if name == strong else "label"),
            class_=f"merge m{index % 4} named",
        )
        for y, (_, name, index) in zip(placed, sorted(ends), strict=True)
    ]
