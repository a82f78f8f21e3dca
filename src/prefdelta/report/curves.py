"""Curves over the scale λ of what chose a merge: validation scores, information or the loss on pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from prefdelta.evaluation.results import DomainSelection, ScaleGrid
from prefdelta.recipe import By
from prefdelta.report import svg

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 312, 16, 210
_LABEL_GAP = 15
_MARKS = 10

MEASURES: Mapping[By, str] = {
    "labels": "Validation score, %",
    "agreement": "Information, points",
    "pairs": "Minus the loss on pairs",
}
"""What a curve shows, by what chose."""


def draw_scales(name: str, selection: DomainSelection) -> str:
    """What chose the merges, over λ (logarithmic): a line per merge method and a ring at its chosen λ.

    Single deltas are thin lines where the same measure chose theirs.
    """
    singles = selection.singles if selection.singles and selection.singles.by == selection.by else None
    return _chart(name, selection, singles, selection.best_merge)


def draw_labelled_scales(name: str, selection: DomainSelection) -> str:
    """Validation scores by labels of the same merges and of the single deltas; empty where labels chose all."""
    if selection.labelled is None:
        return ""
    singles = selection.singles if selection.singles and selection.singles.by == "labels" else None
    return _chart(name, selection.labelled, singles, selection.best_merge)


def _chart(name: str, grid_of: ScaleGrid, single_grid: ScaleGrid | None, strong: str) -> str:
    merges = _lines(grid_of)
    singles = _lines(single_grid) if single_grid else {}
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
    for scale in _marked(scales):
        x = at(scale, marks[0])[0]
        parts.append(svg.text(f"{scale:g}", x, _BOTTOM + 16, class_="soft small", text_anchor="middle"))
    parts.append(svg.text("scale λ", (_LEFT + _RIGHT) / 2, _BOTTOM + 33, class_="soft small", text_anchor="middle"))
    for label, grid in singles.items():
        parts.append(_line("single", label, [at(*point) for point in grid]))
    ends = []
    for index, (label, grid) in enumerate(merges.items()):
        points = [at(*point) for point in grid]
        parts.append(_line(f"merge m{index % 4}", label, points))
        scale = grid_of.best_scale[label]
        chosen = at(scale, dict(grid)[float(f"{scale:g}")])
        ring = svg.element("circle", svg.title(f"{label}: chosen λ"), cx=chosen[0], cy=chosen[1], r=5, class_="open")
        parts.append(svg.element("g", ring, class_=f"merge m{index % 4}"))
        ends.append((points[-1][1], label, index))
    parts += _labels(ends, strong=strong)
    if singles:
        parts.append(svg.text("thin: single deltas", _RIGHT + 10, _BOTTOM + 16, class_="soft small"))
    return svg.element(
        "svg",
        svg.title(f"{MEASURES[grid_of.by]} over the scale in {name}") + "".join(parts),
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
    )


def _marked(scales: Sequence[float]) -> Sequence[float]:
    """Which λ stand at the axis: all of a few, else the powers of two among them."""
    if len(scales) <= _MARKS:
        return scales
    first, last = math.ceil(math.log2(scales[0])), math.floor(math.log2(scales[-1]))
    return [2.0**power for power in range(first, last + 1)]


def _lines(selection: ScaleGrid) -> dict[str, list[tuple[float, float]]]:
    return {
        name: sorted((float(scale), score) for scale, score in grid.items()) for name, grid in selection.scores.items()
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
