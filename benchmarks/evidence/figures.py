"""The figures of the claims, drawn as the reports' pictures are: rows of dots with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefdelta.report.picture import Point, Row, panel, picture

Numbers = Mapping[str, Any]
Panel = tuple[int, float, str]

_RULES = {"one": "λ = 1", "projection": "projection", "stored": "stored", "agreement": "agreement"}
_BASELINES = ("best single", "sequential", "joint")
_OVER = ("over best single", "over student", "over average", "over ties")
_NOT_METHODS = ("student", "ash", "birch", "cedar", "elm", *_OVER, *_BASELINES)


def figures(results: Mapping[str, Any]) -> dict[str, str]:
    """Name -> a complete SVG file, for every claim that was measured."""
    found = results["claims"]
    drawn: dict[str, Sequence[Panel]] = {}
    if "table" in found:
        drawn["evidence-table"] = [_table(domain, numbers) for domain, numbers in found["table"].items()]
    if "families" in found:
        drawn["evidence-families"] = [_families(domain, numbers) for domain, numbers in found["families"].items()]
    if "regret" in found:
        drawn["evidence-regret"] = [_regret("All merges", found["regret"])]
        if "regret_alone" in found:
            drawn["evidence-regret"] = [*drawn["evidence-regret"], _regret("Single deltas", found["regret_alone"])]
    if "lengths" in found:
        drawn["evidence-lengths"] = [_lengths(domain, numbers) for domain, numbers in found["lengths"].items()]
    for claim in ("number", "many"):
        if claim in found:
            drawn[f"evidence-{claim}"] = [_number(domain, numbers) for domain, numbers in found[claim].items()]
    for claim in ("ranks", "objectives"):
        if claim in found:
            drawn[f"evidence-{claim}"] = [_variants(domain, numbers) for domain, numbers in found[claim].items()]
    if "fooled" in found:
        drawn["evidence-fooled"] = [_fooled(domain, numbers) for domain, numbers in found["fooled"].items()]
    if "harmful" in found:
        drawn["evidence-harmful"] = [_harmful(domain, numbers) for domain, numbers in found["harmful"].items()]
    return {name: picture(panels) for name, panels in drawn.items()}


def _point(label: str, mean: float, *, full: bool) -> Point:
    return Point(mean, full, f"{label}: {mean:.1f}")


def _row(
    label: str, kind: str, full: Numbers, open_: Mapping[str, Numbers] | None = None, *, opens_group: bool = False
) -> Row:
    """A full dot with its interval, and open ones beside it."""
    others = tuple(_point(f"{label}, {name}", each["mean"], full=False) for name, each in (open_ or {}).items())
    bounds = (full["low"], full["high"]) if full.get("low") is not None else None
    points = (*others, _point(label, full["mean"], full=True))
    return Row(label, kind, points, bounds, f"{full['mean']:.1f}", opens_group=opens_group)


def _table(domain: str, numbers: Numbers) -> Panel:
    student = numbers["student"]
    rows = [_row("student", "student", student)]
    for name in _BASELINES:
        if name in numbers:
            at_one = {"λ = 1": numbers[name]["one"]} if "one" in numbers[name] else None
            rows.append(_row(name, "baseline", numbers[name]["labels"], at_one, opens_group=name == "best single"))
    for index, (name, ways) in enumerate(pair for pair in numbers.items() if pair[0] not in _NOT_METHODS):
        rows.append(_row(name, "merge", ways["agreement"], {"λ = 1": ways["one"]}, opens_group=index == 0))
    return panel(domain, rows, highest=_highest(rows), student=student["mean"])


def _families(domain: str, numbers: Numbers) -> Panel:
    rows = []
    for method, by_family in numbers["scores"].items():
        points = tuple(_point(f"{method}, family {family}", each, full=True) for family, each in by_family.items())
        mean = sum(point.score for point in points) / len(points)
        rows.append(Row(method, "student" if method == "student" else "merge", points, None, f"{mean:.1f}"))
    return panel(domain, rows, highest=_highest(rows), student=None)


def _regret(title: str, numbers: Numbers) -> Panel:
    rows = [_row(label, "merge", numbers[way]["all"]) for way, label in _RULES.items() if way in numbers]
    lowest = min(0.0, *(row.interval[0] for row in rows if row.interval), 0.0)
    return panel(title, rows, highest=_highest(rows), student=None, unit="points lost against labels", lowest=lowest)


def _lengths(domain: str, numbers: Numbers) -> Panel:
    rows = []
    for method, by_epochs in numbers.items():
        for index, (epochs, ways) in enumerate(by_epochs.items()):
            label = f"{method}, {epochs} ep."
            rows.append(_row(label, "merge", ways["agreement"], {"λ kept": ways["fixed"]}, opens_group=index == 0))
    return panel(domain, rows, highest=_highest(rows), student=None)


def _number(domain: str, numbers: Numbers) -> Panel:
    rows = []
    for method, by_size in numbers.items():
        for index, (size, ways) in enumerate(by_size.items()):
            label = f"{method}, {size}"
            points = (
                _point(f"{label}, λ = 1", ways["one"], full=False),
                _point(label, ways["agreement"], full=True),
            )
            rows.append(Row(label, "merge", points, None, f"{ways['agreement']:.1f}", opens_group=index == 0))
    return panel(domain, rows, highest=_highest(rows), student=None)


def _harmful(domain: str, numbers: Numbers) -> Panel:
    rows = [_row(method, "merge", ways["with"], {"without": ways["without"]}) for method, ways in numbers.items()]
    return panel(domain, rows, highest=_highest(rows), student=None)


def _variants(domain: str, numbers: Numbers) -> Panel:
    rows = []
    for method, by_variant in numbers.items():
        for index, (variant, ways) in enumerate(by_variant.items()):
            at_one = {"λ = 1": ways["one"]}
            rows.append(_row(f"{method}, {variant}", "merge", ways["agreement"], at_one, opens_group=index == 0))
    return panel(domain, rows, highest=_highest(rows), student=None)


def _fooled(domain: str, numbers: Numbers) -> Panel:
    rows = [_row(name, "merge", ways["agreement"], {"labels": ways["labels"]}) for name, ways in numbers.items()]
    return panel(domain, rows, highest=_highest(rows), student=None)


def _highest(rows: Sequence[Row]) -> float:
    dots = [point.score for row in rows for point in row.points]
    return max([*dots, *(row.interval[1] for row in rows if row.interval)])
