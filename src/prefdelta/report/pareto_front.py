"""The picture of a preference sweep: what one task gains and the others lose."""

from __future__ import annotations

from collections.abc import Sequence

from prefdelta.evaluation.results import PreferenceSweep
from prefdelta.report import svg

_WIDTH, _HEIGHT = 720, 320
_TOP, _BOTTOM = 40, 260
_PANELS = ((60, 330), (440, 700))
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.soft{fill:#777}.grid{stroke:#ddd}"
    ".line{fill:none;stroke:#2563eb;stroke-width:2}.dot{fill:#2563eb}.other{fill:none;stroke:#999;stroke-width:2}"
    ".ring{fill:#999}"
)


def draw_front(sweep: PreferenceSweep) -> str:
    """Two panels: normalised accuracy over ρ of the preferred task and of the others' mean; and one over the other."""
    points = sorted(sweep.points, key=lambda point: point.weight)
    own, others = [point.task for point in points], [point.others for point in points]
    rhos = [point.weight for point in points]
    marks = svg.ticks(min(own + others), max(own + others), 6)
    left = _Panel(*_PANELS[0], 0.0, 1.0, marks[0], marks[-1])
    right = _Panel(*_PANELS[1], *_range(others), *_range(own))
    parts = [svg.element("style", _STYLE)]
    parts += [svg.text(f"{sweep.task} and ρ ({sweep.method})", _PANELS[0][0], 20)]
    parts += [svg.text("the front, points labelled with ρ", _PANELS[1][0], 20)]
    parts += left.frame([0, 0.25, 0.5, 0.75, 1], marks, f"ρ of {sweep.task}", "normalised accuracy, %")
    parts += left.curve(rhos, others, "other", "ring") + left.curve(rhos, own, "line", "dot")
    parts += [
        svg.text(f"{sweep.task}", left.x(rhos[-1]) - 6, left.y(own[-1]) - 8, text_anchor="end"),
        svg.text("mean of the others", left.x(rhos[0]) + 6, left.y(others[0]) - 8, class_="soft"),
    ]
    parts += right.frame(
        svg.ticks(*_range(others), 5), svg.ticks(*_range(own), 6), "mean of the others, %", f"{sweep.task}, %"
    )
    parts += right.curve(others, own, "line", "dot")
    for rho, x, y in zip(rhos, others, own, strict=True):
        parts.append(svg.text(f"{rho:g}", right.x(x) + 7, right.y(y) - 5))
    return svg.element(
        "svg", "".join(parts), xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img"
    )


class _Panel:
    def __init__(self, left: float, right: float, low_x: float, high_x: float, low_y: float, high_y: float) -> None:
        self._left, self._right = left, right
        self._low_x, self._high_x, self._low_y, self._high_y = low_x, high_x, low_y, high_y

    def x(self, value: float) -> float:
        return self._left + (value - self._low_x) / (self._high_x - self._low_x) * (self._right - self._left)

    def y(self, value: float) -> float:
        return _BOTTOM - (value - self._low_y) / (self._high_y - self._low_y) * (_BOTTOM - _TOP)

    def frame(self, across: Sequence[float], up: Sequence[float], below: str, beside: str) -> list[str]:
        parts = []
        for mark in up:
            parts.append(svg.line(self._left, self.y(mark), self._right, self.y(mark), class_="grid"))
            parts.append(svg.text(f"{mark:g}", self._left - 6, self.y(mark) + 4, class_="soft", text_anchor="end"))
        for mark in across:
            parts.append(svg.text(f"{mark:g}", self.x(mark), _BOTTOM + 18, class_="soft", text_anchor="middle"))
        middle = (self._left + self._right) / 2
        parts.append(svg.text(below, middle, _BOTTOM + 40, class_="soft", text_anchor="middle"))
        turn = f"rotate(-90 {self._left - 40} {(_TOP + _BOTTOM) / 2})"
        parts.append(
            svg.text(beside, self._left - 40, (_TOP + _BOTTOM) / 2, class_="soft", text_anchor="middle", transform=turn)
        )
        return parts

    def curve(self, xs: Sequence[float], ys: Sequence[float], line: str, dot: str) -> list[str]:
        places = [(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = [svg.element("circle", cx=x, cy=y, r=4, class_=dot) for x, y in places]
        return [svg.element("polyline", points=path, class_=line), *dots]


def _range(values: Sequence[float]) -> tuple[float, float]:
    marks = svg.ticks(min(values), max(values), 6)
    return marks[0], marks[-1]
