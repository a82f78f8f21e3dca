"""The report page of a fusion, and the picture of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from prefdelta.core.files import replace_text
from prefdelta.evaluation.doubts import doubts
from prefdelta.evaluation.results import FusionData, FusionResults, Role, signed
from prefdelta.evaluation.results.fusion import SOURCE
from prefdelta.report.contents import Transcript
from prefdelta.report.headline import warned
from prefdelta.report.page import VIEWS, environment
from prefdelta.report.picture import PALETTE, STYLE, Point, Row, embedded, panel, picture

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

    results: FusionResults
    recipe: str
    description: str = ""
    transcripts: Sequence[Transcript] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def write_fusion_report(run: FusionReport, path: Path) -> None:
    """Write the page. It makes no request: styles and picture are inside."""
    replace_text(path, render_fusion(run))


def render_fusion(run: FusionReport) -> str:
    """The page as text."""
    groups = {
        title: {name: method for name, method in run.results.methods.items() if method.kind == kind}
        for kind, title in _GROUPS.items()
    }
    return (
        environment()
        .get_template("fusion.html.j2")
        .render(
            run=run,
            results=run.results,
            views_mark=VIEWS,
            headline=fusion_headline(run.results),
            picture=embedded(f"Scores in {run.results.recipe}", _panel(run.results)),
            chart_style=PALETTE + STYLE,
            groups={title: members for title, members in groups.items() if members},
            answers=_answers(run.results.data),
            behaviours=_behaviours(run.results),
        )
    )


def fusion_doubts(results: FusionResults) -> list[str]:
    """What speaks against the models that the headline is about."""
    shown = [name for name in ("student", results.control, results.main) if name in results.methods]
    return doubts({name: results.methods[name].test.tasks for name in shown})


def fusion_headline(results: FusionResults) -> str:
    """The result in one sentence, whatever it is."""
    main, control = results.main, results.control
    over = {entry.other: entry for entry in results.comparisons}
    score = results.methods[main].test.average.score
    gain = over[control]
    return warned(
        fusion_doubts(results),
        f"{main} reaches {score:.1f}\N{NO-BREAK SPACE}%: {signed(gain.mean)} points over {control}, the same "
        f"training without the sources' answers [95\N{NO-BREAK SPACE}% CI {signed(gain.low)} to "
        f"{signed(gain.high)}]{_CLEAR[gain.verdict]}, and {signed(over['student'].mean)} over "
        "the student.",
    )


def draw_fusion(results: FusionResults) -> str:
    """Every model on one scale, as a complete SVG file that follows the reader's light or dark theme."""
    return picture([_panel(results)])


def _panel(results: FusionResults) -> tuple[int, float, str]:
    methods = results.methods
    student = methods["student"].test.average.score
    rows = []
    for kind in _GROUPS:
        members = {name: method for name, method in methods.items() if method.kind == kind}
        for index, (name, method) in enumerate(members.items()):
            average = method.test.average
            over = average.versus.get("student")
            rows.append(
                Row(
                    label=name.removeprefix(SOURCE),
                    kind=_COLOURS[kind],
                    points=(Point(average.score, True, f"{name}: {average.score:.1f}"),),
                    interval=(student + over.low, student + over.high) if over else None,
                    value=f"{average.score:.1f}",
                    strong=kind == "main",
                    opens_group=index == 0 and kind != "student",
                )
            )
    highest = max(method.test.average.score for method in methods.values())
    return panel(results.recipe, rows, highest=highest, student=student)


def _answers(data: Mapping[str, FusionData]) -> dict[str, Any]:
    """What was trained on, as means over the seeds."""
    seeds = list(data.values())

    def mean(value: Callable[[FusionData], float]) -> float:
        return fmean(value(entry) for entry in seeds)

    def role(name: str) -> Role:
        found = [entry.answers.roles[name] for entry in seeds]
        return Role(
            score=fmean(entry.score for entry in found),
            tokens=fmean(entry.tokens for entry in found),
            ended=fmean(entry.ended for entry in found),
        )

    triples = mean(lambda entry: entry.triples["triples"])
    return {
        "prompts": mean(lambda entry: entry.triples["items"]),
        "triples": triples,
        "ahead": 100 * mean(lambda entry: entry.triples["source_ahead"]) / triples,
        "demonstrations": mean(lambda entry: entry.demonstrations.demonstrations),
        "roles": {name: role(name) for name in seeds[0].answers.roles},
    }


def _behaviours(results: FusionResults) -> list[tuple[str, Mapping[str, float]]]:
    """Behaviour rates of every model but the sources."""
    rates = results.behaviours or {}
    return [(name, rates[name]) for name, method in results.methods.items() if rates and method.kind != "source"]
