"""The report page: ``report.html``, self-contained, equal bytes for equal input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prefdelta.report import words
from prefdelta.report.contents import ReportInput
from prefdelta.report.curves import draw_scales
from prefdelta.report.picture import PALETTE, STYLE, draw_domain
from prefdelta.store import replace_text

_OBSERVATION = re.compile(r"(<information>.*?</information>)", re.DOTALL)
_KINDS = {
    "student": "student",
    "weak": "weak models",
    "single": "single deltas",
    "merge": "merges",
    "baseline": "training on all pairs",
    "control": "controls",
}


def write_report(run: ReportInput, path: Path) -> None:
    """Write the report page of a run. It makes no request: styles and pictures are inside."""
    replace_text(path, render(run))


def render(run: ReportInput) -> str:
    """The page as text."""
    domains = run.results["domains"]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            results=run.results,
            headline=words.headline(run.results),
            domains={name: _domain(domain) for name, domain in domains.items()},
            pictures={name: Markup(draw_domain(name, domain)) for name, domain in domains.items()},
            scales={name: Markup(draw_scales(name, domain["selection"])) for name, domain in domains.items()},
            chart_style=Markup(PALETTE + STYLE),
            controls=words.CONTROLS,
            geometry={name: _geometry(entry) for name, entry in run.geometry.items()},
            kinds=_KINDS,
        )
    )


def environment() -> Environment:
    """The templates of this package, and the filters that they use."""
    made = Environment(
        loader=PackageLoader("prefdelta.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(signed=words.signed, interval=words.interval, pieces=_pieces, short=lambda h: h[:10])
    return made


def _domain(domain: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of a domain, in the order in which it shows it."""
    methods = domain["methods"]
    return {
        **domain,
        "headline": words.domain_headline(domain),
        "groups": {
            kind: {name: method for name, method in methods.items() if method["kind"] == kind}
            for kind in _KINDS
            if any(method["kind"] == kind for method in methods.values())
        },
        "control_readings": _control_readings(methods),
        "behaviour_rows": _behaviour_rows(domain),
    }


def _control_readings(methods: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One reading per control, of its merge at λ = 1 and, where it is another, at the λ that validation chose."""
    readings: dict[str, dict[str, Any]] = {}
    for method in methods.values():
        control, _, source = method["source"].partition(".")
        if method["kind"] == "control" and source in ("average", ""):
            entry = readings.setdefault(control, {"name": control, "differences": {}})
            entry["differences"][method["scale"]] = method["average"]["vs_student"]
    for entry in readings.values():
        entry["lesson"] = words.control_reading(entry["name"], entry["differences"])
    return list(readings.values())


def _behaviour_rows(domain: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """Behaviour rates of the student, the single deltas at λ = 1, and the chosen merge."""
    rates = domain.get("behaviours")
    if not rates:
        return []
    methods = domain["methods"]
    singles = [name for name, method in methods.items() if method["kind"] == "single" and method["scale"] == 1]
    student = [name for name, method in methods.items() if method["kind"] == "student"]
    shown = [*student, *singles, domain["summary"]["best_merge"]["variant"]]
    return [(name, rates[name]) for name in shown]


def _geometry(geometry: Mapping[str, Any]) -> dict[str, Any]:
    names: Sequence[str] = geometry["names"]
    size = range(len(names))
    pairs = {(pair["first"], pair["second"]): pair for pair in geometry["pairs"]}

    def matrix(key: str) -> list[list[float | None]]:
        return [[1.0 if a == b else pairs[min(a, b), max(a, b)][key] for b in size] for a in size]

    return {
        "names": names,
        "norms": geometry["norms"],
        "cosines": matrix("cosine"),
        "outputs": matrix("overlap_u"),
        "inputs": matrix("overlap_v"),
    }


def _pieces(output: str) -> list[tuple[str, str]]:
    """An answer in pieces: what the model wrote and what it was shown."""
    return [
        ("shown" if piece.startswith("<information>") else "own", piece)
        for piece in _OBSERVATION.split(output)
        if piece
    ]
