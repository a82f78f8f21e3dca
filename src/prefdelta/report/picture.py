"""The picture of a result: one panel per domain, one line per model or method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prefdelta.evaluation.results import AggregationResults, Domain, VariantResult
from prefdelta.report import svg

WIDTH = 460
_LEFT, _RIGHT, _ROW, _TOP = 168, 404, 25, 34
_OVER = 8  # how far an interval may reach beyond its panel; it is then cut off, without its end mark

PALETTE = """\
svg{--ink:#1d2633;--soft:#5d6878;--line:#dfe3ea;--paper:#fff;--weak:#8b96a6;--single:#2f6fd0;--merge:#d4500c;\
--control:#8257b5}
@media(prefers-color-scheme:dark){svg{--ink:#e8ebf0;--soft:#9aa5b5;--line:#343c49;--paper:#14181f;--weak:#7d8898;\
--single:#7aa9f5;--merge:#ff9050;--control:#bb97ea}}
"""
STYLE = """\
svg.chart text{fill:var(--ink);font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
svg.chart .soft{fill:var(--soft)}svg.chart .small{font-size:11px}svg.chart .strong{font-weight:650}
svg.chart .grid{stroke:var(--line)}svg.chart .mark{stroke:var(--soft);stroke-dasharray:3 3}
svg.chart .weak{--c:var(--weak)}svg.chart .student{--c:var(--ink)}
svg.chart .single,svg.chart .baseline{--c:var(--single)}
svg.chart .merge{--c:var(--merge)}svg.chart .control{--c:var(--control)}
svg.chart .full{fill:var(--c);stroke:var(--paper);stroke-width:1}
svg.chart .open{fill:var(--paper);stroke:var(--c);stroke-width:1.6}
svg.chart .reach{stroke:var(--c);stroke-width:2;opacity:.55}svg.chart .bar{stroke:var(--c);stroke-width:1.5}
"""

_CONTROL_LABELS = {"sft": "imitation (SFT)", "shuffled": "shuffled labels", "reversed": "reversed labels"}


@dataclass(frozen=True)
class Point:
    """A dot: ``full`` or open, and what it says when pointed at."""

    score: float
    full: bool
    says: str


@dataclass(frozen=True)
class Row:
    """A line of a panel: a label, dots, and a bar for an interval. ``kind`` decides its colour (see ``STYLE``)."""

    label: str
    kind: str
    points: tuple[Point, ...]
    interval: tuple[float, float] | None = None
    value: str = ""
    strong: bool = False
    opens_group: bool = False


def draw_domain(name: str, domain: Domain) -> str:
    """One panel: weak models, the student, single deltas, merges and controls on one scale.

    A full dot is the model at the scale that was chosen, an open one the same at λ = 1. The bar through a full
    dot is the 95 % interval of its difference to the student.
    """
    return embedded(f"Scores in {name}", _panel(name, domain))


def draw_result(results: AggregationResults) -> str:
    """All panels side by side, as a complete SVG file that follows the reader's light or dark theme."""
    return picture([_panel(name, domain) for name, domain in results.domains.items()])


def embedded(title: str, drawn: tuple[int, float, str]) -> str:
    """A panel for a page that has the styles."""
    width, height, body = drawn
    return svg.element("svg", svg.title(title) + body, class_="chart", viewBox=f"0 0 {width} {height}", role="img")


def picture(panels: Sequence[tuple[int, float, str]]) -> str:
    """Panels side by side, as a complete SVG file that follows the reader's light or dark theme."""
    height = max(panel[1] for panel in panels)
    width = sum(panel[0] for panel in panels)
    placed = [
        svg.element("g", body, transform=f"translate({index * WIDTH} 0)") for index, (_, _, body) in enumerate(panels)
    ]
    paper = svg.element("rect", width=width, height=height, rx=8, style="fill:var(--paper)")
    return (
        svg.element(
            "svg",
            svg.element("style", PALETTE + STYLE) + paper + "".join(placed),
            xmlns="http://www.w3.org/2000/svg",
            class_="chart",
            viewBox=f"0 0 {width} {height}",
            width=width,
            height=height,
        )
        + "\n"
    )


def _panel(name: str, domain: Domain) -> tuple[int, float, str]:
    scores = [method.average.score for method in domain.methods.values()]
    return panel(name, _rows(domain), highest=max(scores), student=domain.summary.student)


def panel(
    name: str, rows: Sequence[Row], *, highest: float, student: float | None, unit: str = "score, %", lowest: float = 0
) -> tuple[int, float, str]:
    """Rows on one scale from ``lowest`` to a little above ``highest``; (width, height, SVG).

    A mark stands at the student, if there is one; ``unit`` says what the scale is of.
    """
    marks = svg.ticks(lowest, highest + 2)
    bottom = _TOP + sum(_height(row) for row in rows)

    def x(score: float) -> float:
        return _LEFT + (score - marks[0]) / (marks[-1] - marks[0]) * (_RIGHT - _LEFT)

    parts = [svg.text(name, 10, 19, class_="strong")]
    for mark in marks:
        parts.append(svg.line(x(mark), _TOP - 4, x(mark), bottom, class_="grid"))
        parts.append(svg.text(f"{mark:g}", x(mark), bottom + 16, class_="soft small", text_anchor="middle"))
    parts.append(svg.text(unit, _RIGHT, 19, class_="soft small", text_anchor="end"))
    if student is not None:
        parts.append(svg.line(x(student), _TOP - 4, x(student), bottom, class_="mark"))
    y: float = _TOP
    for row in rows:
        y += _height(row)
        parts.append(_draw_row(row, y - _ROW / 2, x))
    return WIDTH, bottom + 26, "".join(parts)


def _height(row: Row) -> float:
    return _ROW + (9 if row.opens_group else 0)


def _draw_row(row: Row, y: float, x: Callable[[float], float]) -> str:
    weight = " strong" if row.strong else ""
    parts = [svg.text(row.label, _LEFT - 12, y + 4, text_anchor="end", class_=f"label{weight}")]
    places = [x(point.score) for point in row.points]
    if len(places) > 1 and row.kind in ("single", "baseline", "merge"):
        parts.append(svg.line(min(places), y, max(places), y, class_="reach"))
    if row.interval is not None:
        ends = [x(value) for value in row.interval]
        low, high = (min(max(end, _LEFT - _OVER), _RIGHT + _OVER) for end in ends)  # not over the names and numbers
        parts.append(svg.line(low, y, high, y, class_="bar"))
        parts += [svg.line(end, y - 3.5, end, y + 3.5, class_="bar") for end in (low, high) if end in ends]
    for point, place in sorted(zip(row.points, places, strict=True), key=lambda pair: pair[0].full):
        radius = (6 if row.strong else 4.8) if point.full else 4
        parts.append(
            svg.element(
                "circle", svg.title(point.says), cx=place, cy=y, r=radius, class_="full" if point.full else "open"
            )
        )
    if row.value:
        parts.append(svg.text(row.value, WIDTH - 8, y + 4, text_anchor="end", class_=f"value{weight}"))
    return svg.element("g", "".join(parts), class_=row.kind)


def _rows(domain: Domain) -> list[Row]:
    methods = domain.methods
    student = domain.summary.student
    best = domain.summary.best_merge.name
    rows = []
    weak = [(name, method) for name, method in methods.items() if method.kind == "weak"]
    if weak:
        points = tuple(_point(name, method, full=True) for name, method in weak)
        top = max(point.score for point in points)
        rows.append(Row(f"{len(weak)} weak models", "weak", points, value=f"≤ {top:.1f}"))
    rows.append(Row("student", "student", (Point(student, True, f"student: {student:.1f}"),), value=f"{student:.1f}"))
    for kind in ("single", "baseline", "merge"):
        sources = list(dict.fromkeys(method.source for method in methods.values() if method.kind == kind))
        for index, source in enumerate(sources):
            # What labels alone would have chosen stands in the tables.
            shown = {name: m for name, m in methods.items() if m.tuned or m.scale == 1}
            made = {name: m for name, m in shown.items() if m.kind == kind and m.source == source}
            strong = kind == "merge" and source == best
            rows.append(_scaled_row(source, kind, made, student, strong=strong, opens_group=index == 0))
    return rows + _control_rows(methods)


def _scaled_row(
    source: str,
    kind: str,
    made: Mapping[str, VariantResult],
    student: float,
    *,
    strong: bool,
    opens_group: bool,
) -> Row:
    chosen = next((method for method in made.values() if method.tuned), list(made.values())[-1])
    difference = chosen.average.vs_student
    scale = "" if chosen.scale in (None, 1) else f" ×{chosen.scale:g}"
    return Row(
        label=source + scale,
        kind=kind,
        points=tuple(_point(name, method, full=method is chosen) for name, method in made.items()),
        interval=(student + difference.low, student + difference.high) if difference else None,
        value=f"{chosen.average.score:.1f}",
        strong=strong,
        opens_group=opens_group,
    )


def _control_rows(methods: Mapping[str, VariantResult]) -> list[Row]:
    controls = {name: method for name, method in methods.items() if method.kind == "control"}
    groups = list(dict.fromkeys(method.source.partition(".")[0] for method in controls.values()))
    rows = []
    for index, group in enumerate(groups):
        made = {name: method for name, method in controls.items() if method.source.partition(".")[0] == group}
        points = tuple(_point(name, method, full=method.tuned) for name, method in made.items())
        chosen = [method for method in made.values() if method.tuned]
        value = f"{chosen[0].average.score:.1f}" if chosen else ""
        label = _CONTROL_LABELS.get(group, group)
        rows.append(Row(label, "control", points, value=value, opens_group=index == 0))
    return rows


def _point(name: str, method: VariantResult, *, full: bool) -> Point:
    scale = "" if method.scale is None else f" at λ = {method.scale:g}"
    return Point(method.average.score, full, f"{method.source}{scale}: {method.average.score:.1f}")
