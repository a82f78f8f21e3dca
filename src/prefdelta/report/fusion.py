"""The report page of a fusion, and the picture of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from prefdelta.report import words
from prefdelta.report.contents import Transcript
from prefdelta.report.page import environment
from prefdelta.report.picture import PALETTE, STYLE, Point, Row, embedded, panel, picture
from prefdelta.store import replace_text

_GROUPS = {
    "student": "student",
    "source": "source models",
    "stage": "fine-tuned",
    "main": "with the sources' answers",
    "control": "the same training without them",
    "comparison": "comparisons",
}
_COLOURS = {
    "student": "student",
    "source": "weak",
    "stage": "single",
    "main": "merge",
    "control": "control",
    "comparison": "single",
}
_CLEAR = {"above": "", "below": ", a loss", "level": ", which is not distinguishable from no gain"}


@dataclass(frozen=True)
class FusionReport:
    """All that the page shows.

    Attributes:
        results: the content of ``results.json``.
        recipe: the recipe as text.
        description: what the run is about, in a sentence or two.
        transcripts: a few answers to read, the student's and the main method's.
        versions: of the libraries that decide numbers.
    """

    results: Mapping[str, Any]
    recipe: str
    description: str = ""
    transcripts: Sequence[Transcript] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def write_fusion_report(run: FusionReport, path: Path) -> None:
    """Write the page. It makes no request: styles and picture are inside."""
    replace_text(path, render_fusion(run))


def render_fusion(run: FusionReport) -> str:
    """The page as text."""
    methods: Mapping[str, Mapping[str, Any]] = run.results["methods"]
    groups = {
        title: {name: method for name, method in methods.items() if method["kind"] == kind}
        for kind, title in _GROUPS.items()
    }
    return (
        environment()
        .get_template("fusion.html.j2")
        .render(
            run=run,
            results=run.results,
            headline=fusion_headline(run.results),
            picture=Markup(embedded(f"Scores in {run.results['recipe']}", _panel(run.results))),
            chart_style=Markup(PALETTE + STYLE),
            groups={title: members for title, members in groups.items() if members},
            answers=_answers(run.results["data"]),
            behaviours=_behaviours(run.results),
        )
    )


def fusion_headline(results: Mapping[str, Any]) -> str:
    """The result in one sentence, whatever it is."""
    main, control = results["main"], results["control"]
    over = {entry["with"]: entry for entry in results["comparisons"]}
    score = results["methods"][main]["test"]["average"]["score"]
    gain = over[control]
    return (
        f"{main} reaches {score:.1f}\N{NO-BREAK SPACE}%: {words.signed(gain['mean'])} points over {control}, the same "
        f"training without the sources' answers [95\N{NO-BREAK SPACE}% CI {words.signed(gain['low'])} to "
        f"{words.signed(gain['high'])}]{_CLEAR[words.verdict(gain)]}, and {words.signed(over['student']['mean'])} over "
        "the student."
    )


def draw_fusion(results: Mapping[str, Any]) -> str:
    """Every model on one scale, as a complete SVG file that follows the reader's light or dark theme."""
    return picture([_panel(results)])


def _panel(results: Mapping[str, Any]) -> tuple[int, float, str]:
    methods: Mapping[str, Mapping[str, Any]] = results["methods"]
    student = methods["student"]["test"]["average"]["score"]
    rows = []
    for kind in _GROUPS:
        members = {name: method for name, method in methods.items() if method["kind"] == kind}
        for index, (name, method) in enumerate(members.items()):
            average = method["test"]["average"]
            over = average["versus"].get("student")
            rows.append(
                Row(
                    label=name.removeprefix("source:"),
                    kind=_COLOURS[kind],
                    points=(Point(average["score"], True, f"{name}: {average['score']:.1f}"),),
                    interval=(student + over["low"], student + over["high"]) if over else None,
                    value=f"{average['score']:.1f}",
                    strong=kind == "main",
                    opens_group=index == 0 and kind != "student",
                )
            )
    highest = max(method["test"]["average"]["score"] for method in methods.values())
    return panel(results["recipe"], rows, highest=highest, student=student)


def _answers(data: Mapping[str, Any]) -> dict[str, Any]:
    """What was trained on, as means over the seeds."""
    seeds = list(data.values())

    def mean(*path: str) -> float:
        values = []
        for entry in seeds:
            value: Any = entry
            for key in path:
                value = value[key]
            values.append(float(value))
        return fmean(values)

    return {
        "prompts": mean("triples", "items"),
        "triples": mean("triples", "triples"),
        "ahead": 100 * mean("triples", "source_ahead") / mean("triples", "triples"),
        "demonstrations": mean("demonstrations", "demonstrations"),
        "roles": {
            role: {what: mean("answers", "roles", role, what) for what in ("score", "tokens", "ended")}
            for role in seeds[0]["answers"]["roles"]
        },
    }


def _behaviours(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """Behaviour rates of every model but the sources."""
    rates = results.get("behaviours", {})
    return [(name, rates[name]) for name, method in results["methods"].items() if rates and method["kind"] != "source"]
