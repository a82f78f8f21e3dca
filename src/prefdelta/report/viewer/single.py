"""What the viewer shows of one model's answers: those of an evaluation, and those that a judge compared or graded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import read_objects
from prefdelta.core.manifests import read_manifest
from prefdelta.core.records import RECORDS, Item, Record, read_rows
from prefdelta.evaluation.results import EvaluationResults, JudgedResults
from prefdelta.evaluation.score_table import ScoreTable
from prefdelta.recipe import Benchmark, Search, configure
from prefdelta.report.viewer.commands import command_of
from prefdelta.report.viewer.questions import questions
from prefdelta.report.viewer.view import Against, Cell, DomainView, ModelView, RunView, TableView

_OPPONENT = "opponent.jsonl"
_QUESTIONS = "questions.jsonl"
_GAMES = "games.jsonl"


def evaluation_view(root: Path, results: EvaluationResults) -> RunView:
    """The folder of ``prefdelta evaluate``."""
    records = read_rows(root / RECORDS, Record)
    notes = [f"Do not trust this yet: {doubt}." for doubt in results.doubts]
    name = results.model if results.adapter is None else f"{results.adapter} on {results.model}"
    config = (read_manifest(root) or {}).get("config", {})
    return RunView(
        name=root.resolve().name,
        description=f"{name}, λ = {results.scale:g}" if results.adapter else name,
        results=results,
        sentences=[f"{name} scores {results.score:.1f} % on {len(records)} items of {', '.join(results.tasks)}."],
        seeds=[results.seed],
        notes=notes,
        command=command_of(root),
        settings=config,
        domains=[_answers(root.resolve().name, name, "model", records, evaluated(config, records, notes))],
        reads=[root],
    )


def evaluated(config: Mapping[str, Any], records: Sequence[Record], notes: list[str]) -> list[Item | None]:
    """The questions of an evaluation, from the settings in its manifest."""
    try:
        benchmark = configure(Benchmark, config.get("benchmark", {}), origin="the manifest")
        search = configure(Search, config["search"], origin="the manifest") if config.get("search") else None
    except PrefdeltaError as error:
        notes.append(f"The questions are not shown: {error}")
        return [None] * len(records)
    return questions([benchmark], search, records, "", notes)


def judged_view(root: Path, results: JudgedResults) -> RunView:
    """The folder of ``prefdelta judge``: the answers of the model and its opponent, and what the judge made of them."""
    records = read_rows(root / RECORDS, Record)
    against = f" against {results.opponent}" if results.opponent else ""
    rows = [*_flat("", results.scores), *_flat("count of ", results.counts)]
    theirs = read_rows(root / _OPPONENT, Record) if (root / _OPPONENT).is_file() else []
    asked = read_rows(root / _QUESTIONS, Item) if (root / _QUESTIONS).is_file() else [None] * len(records)
    words = _words(root / _GAMES, records) if (root / _GAMES).is_file() else []
    domains = [replace(_judged(results, records, theirs, asked), words=words)] if records else []
    return RunView(
        name=root.resolve().name,
        description=f"{results.model}{against}, judged by {results.judge} as {results.benchmark}",
        results=results,
        sentences=[f"{results.judge} judged {results.counts.get('judged', 0)} answers of {results.model}{against}."],
        seeds=[0],
        notes=[f"{count} judgements were refused: {reason}." for reason, count in results.refused.items()],
        command=command_of(root),
        domains=domains,
        tables=[TableView("Scores and counts", ["measure", "value"], rows)],
        reads=[root],
    )


def _judged(
    results: JudgedResults, records: Sequence[Record], theirs: Sequence[Record], asked: Sequence[Item | None]
) -> DomainView:
    """The answers of the model, beside those of its opponent where the folder has them."""
    model = results.model
    alone = replace(_answers(results.benchmark, model, "model", records, asked), judged=True)
    if not theirs:
        return alone
    other = results.opponent if results.opponent and results.opponent != model else f"{model} (opponent)"
    table = ScoreTable.from_records({(model, None): records, (other, None): theirs})
    differences = [Against(table.interval(model, other, t).text, table.items(t)) for t in (None, *table.tasks)]
    scores = [table.score(other, task) for task in table.tasks]
    opponent = ModelView(other, "opponent", other, None, table.score(other), scores)
    mine = replace(alone.models[0], to_base=differences)
    return replace(alone, models=[opponent, mine], base=0, choices=[1], answers=[[theirs, records]])


def _words(games: Path, records: Sequence[Record]) -> list[list[tuple[str, str, str]]]:
    """What the judge wrote of each record: of both orders of two answers, or of one turn."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for _, row in read_objects(games):
        if "model_first" in row:
            item, shown, verdict = row["item"], "model" if row["model_first"] else "opponent", row["verdict"]
        else:
            item, shown, verdict = f"{row['item']}/{row['turn']}", "", row["rating"]
        found.setdefault(item, []).append((shown, "" if verdict is None else str(verdict), row["reply"]))
    return [found.get(record.item, []) for record in records]


def _answers(domain: str, model: str, kind: str, records: Sequence[Record], asked: Sequence[Item | None]) -> DomainView:
    """The answers of one model."""
    table = ScoreTable.from_records({(model, None): records})
    scores = [table.score(model, task) for task in table.tasks]
    return DomainView(
        name=domain,
        tasks=table.tasks,
        models=[ModelView(model, kind, model, None, table.score(model), scores)],
        base=None,
        rival=None,
        choices=[0],
        items=[(record.task, record.item) for record in records],
        questions=asked,
        answers=[[records]],
    )


def _flat(label: str, values: Mapping[str, Any]) -> list[Sequence[Cell]]:
    """Nested numbers as rows of a name and a value."""
    rows: list[Sequence[Cell]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(f"{label}{name}, ", value)
        elif isinstance(value, float):
            rows.append([f"{label}{name}", f"{value:.4g}"])
        elif value is None or isinstance(value, str | int):
            rows.append([f"{label}{name}", value])
    return rows
