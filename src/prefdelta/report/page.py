"""The report page: ``report.html``, self-contained, equal bytes for equal input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from prefdelta import micro
from prefdelta.core.files import replace_text
from prefdelta.evaluation.results import Domain, Interval, signed
from prefdelta.report.choice import choice_sentences, scale_rows
from prefdelta.report.contents import DomainLineage, ReportInput
from prefdelta.report.curves import MEASURES, draw_labelled_scales, draw_scales
from prefdelta.report.headline import CONTROLS, cautions, control_reading, headlines, question
from prefdelta.report.picture import PALETTE, STYLE, draw_domain
from prefdelta.report.usage import peft_code, vllm_command

VIEWS = "<!--views-->"
"""Stands where the viewer puts links to its views into its copy of a report."""

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
    domains = run.results.domains
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            results=run.results,
            views_mark=VIEWS,
            question=question(run.results),
            headlines=headlines(run.results),
            cautions=cautions(run.results),
            views={name: _view(domain) for name, domain in domains.items()},
            pictures={name: draw_domain(name, domain) for name, domain in domains.items()},
            scales={name: draw_scales(name, domain.selection) for name, domain in domains.items()},
            labelled={name: draw_labelled_scales(name, domain.selection) for name, domain in domains.items()},
            choices={name: choice_sentences(domain) for name, domain in domains.items()},
            scale_rows={name: scale_rows(domain.selection) for name, domain in domains.items()},
            measures=MEASURES,
            chart_style=PALETTE + STYLE,
            controls=CONTROLS,
            behaviours=micro.BEHAVIOURS,
            uses={name: _use(run.results.recipe, name, line) for name, line in run.lineage.items()},
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
    made.filters.update(signed=signed, pieces=_pieces, short=lambda h: h[:10])
    return made


def _view(domain: Domain) -> dict[str, Any]:
    """What the page shows of a domain beside its results."""
    groups = {kind: {name: m for name, m in domain.methods.items() if m.kind == kind} for kind in _KINDS}
    return {
        "groups": {kind: methods for kind, methods in groups.items() if methods},
        "control_readings": _control_readings(domain),
        "behaviour_rows": _behaviour_rows(domain),
        "compared": [task for task in domain.tasks if _is_compared(domain, task)],
    }


def _is_compared(domain: Domain, task: str) -> bool:
    """Whether a task is made of preference pairs."""
    return all("margin" in (method.tasks[task].measures or {}) for method in domain.methods.values())


def _use(recipe: str, name: str, line: DomainLineage) -> dict[str, str]:
    """How to use a domain's merged adapter."""
    base = line.student.label
    serve = vllm_command(base, f"{recipe}-{name}", line.folder, line.rank)
    return {"folder": line.folder, "python": peft_code(base, line.folder), "serve": serve}


def _control_readings(domain: Domain) -> list[tuple[str, Mapping[float, Interval], str]]:
    """Each control: the differences of its merge to the student, at λ = 1 and at the chosen λ, and what they teach."""
    found: dict[str, dict[float, Interval]] = {}
    for method in domain.methods.values():
        control, _, source = method.source.partition(".")
        difference = method.average.vs_student
        if method.kind == "control" and source in ("average", "") and method.scale is not None and difference:
            found.setdefault(control, {})[method.scale] = difference
    return [(name, differences, control_reading(name, differences)) for name, differences in found.items()]


def _behaviour_rows(domain: Domain) -> list[tuple[str, Mapping[str, float]]]:
    """Behaviour rates of the student, the single deltas at λ = 1, and the chosen merge."""
    if not domain.behaviours:
        return []
    singles = [name for name, method in domain.methods.items() if method.kind == "single" and method.scale == 1]
    student = [name for name, method in domain.methods.items() if method.kind == "student"]
    shown = [*student, *singles, domain.summary.best_merge.variant]
    return [(name, domain.behaviours[name]) for name in shown]


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
