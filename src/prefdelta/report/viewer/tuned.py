"""What the viewer shows of merges that were tuned or learned: what was tried, and how the objectives went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefdelta.core.jsonl import read_objects
from prefdelta.merging.learned.report import LOG, LearningReport
from prefdelta.merging.tuning.record import Tried, TuningRecord
from prefdelta.report.viewer.commands import command_of
from prefdelta.report.viewer.process import thinned
from prefdelta.report.viewer.view import Cell, Chart, Curve, RunView, TableView

_MEASURES = {"labels": "score %", "agreement": "information", "pairs": "minus the mean loss"}


def tuning_view(root: Path, results: TuningRecord) -> RunView:
    """The folder of ``prefdelta tune``, or of a merge with a calibrated scale."""
    measure = _MEASURES[results.by]
    unit = 100.0 if results.by == "labels" else 1.0
    choice = results.choice
    sentences = [
        f"Chosen by {results.by}: {choice.method} of {', '.join(choice.adapters)} at λ = {_scale(choice)}, "
        f"{measure} {unit * choice.score:.4g} ({unit * results.base_score:.4g} of the base alone).",
    ]
    if results.gain is not None:
        mean, low, high = (unit * value for value in (results.gain.mean, results.gain.low, results.gain.high))
        sentences.append(
            f"Against the plain average at λ = 1: {mean:+.4g} [{low:+.4g}, {high:+.4g}], optimistic, as the choice was "
            "made on these items."
        )
    rows: list[Sequence[Cell]] = [
        [
            str(place + 1),
            f"{unit * trial.score:.4g}",
            trial.method,
            _scale(trial),
            ", ".join(trial.adapters),
            ", ".join(f"{weight:.3g}" for weight in trial.weights),
            None if trial.unparsed is None else 100 * trial.unparsed,
            "chosen" if place == results.chosen else "level with it" if place in results.ties else "",
        ]
        for place, trial in sorted(enumerate(results.trials), key=lambda entry: -entry[1].score)
    ]
    columns = ["trial", measure, "method", "λ", "adapters", "weights", "unparsed %", "choice"]
    return RunView(
        name=root.resolve().name,
        description=f"{len(results.trials)} merges tried on {', '.join(entry.name for entry in results.benchmarks)}",
        results=results,
        sentences=sentences,
        seeds=[results.seed],
        notes=[*(f"Do not trust this yet: {doubt}." for doubt in results.doubts), *results.warnings],
        command=command_of(root),
        settings={"by": results.by, "split": results.split, "sampling": dict(results.sampling)},
        charts=_trial_chart(results, measure, unit),
        tables=[TableView("All merges that were tried, best first", columns, rows)],
        reads=[root],
    )


def _trial_chart(results: TuningRecord, measure: str, unit: float) -> list[Chart]:
    """The score over λ of every method, all adapters at equal weights; rules for λ have no place on the axis."""
    curves: dict[str, list[Sequence[float | None]]] = {}
    for trial in results.trials:
        whole = len(trial.adapters) == len(results.adapters) and len(set(trial.weights)) == 1
        if whole and not isinstance(trial.scale, str) and trial.scale > 0:
            unparsed = None if trial.unparsed is None else 100 * trial.unparsed
            curves.setdefault(trial.method, []).append([float(trial.scale), unit * trial.score, unparsed])
    chosen = results.choice
    drawn = [
        Curve(
            name,
            "merge",
            chosen.scale if chosen.method == name and not isinstance(chosen.scale, str) else None,
            sorted(rows, key=lambda row: row[0] or 0.0),
            results.range if chosen.method == name and results.range and results.range[0] < results.range[1] else None,
        )
        for name, rows in curves.items()
    ]
    if not drawn:
        return []
    columns = [measure, "unparsed %"]
    return [Chart("Scale", "scale λ", columns, [measure], drawn, logarithmic=True, notes=_scale_notes(results))]


def _scale_notes(results: TuningRecord) -> list[str]:
    """How sure the chosen λ is, and how far the merge is from the base."""
    found, guard = [], results.guard
    if results.range is not None and results.range[0] < results.range[1]:
        low, high = results.range
        found.append(f"λ from {low:g} to {high:g} cannot be told from λ = {_scale(results.choice)} by these items.")
    told = f"On the base's own answers the merge is {guard.kl:.2g} nats a token away from the base "
    told += f"(KL; limit {guard.kl_limit:g})"
    if guard.unparsed is not None and guard.unparsed_base is not None:
        told += f"; no answer was found in {guard.unparsed:.1f} % of its answers, and in {guard.unparsed_base:.1f} % "
        told += "of the base's"
    if guard.shared is not None and guard.shared_most is not None and guard.shared_most_at is not None:
        told += f"; its answers share {guard.shared:.2f} of information with the base's, "
        told += f"and at λ = {guard.shared_most_at:g} {guard.shared_most:.2f}"
    return [*found, f"{told}.", *(f"Warning: {text}" for text in guard.warnings)]


def _scale(trial: Tried) -> str:
    return trial.scale if isinstance(trial.scale, str) else f"{trial.scale:g}"


def learned_view(root: Path, results: LearningReport) -> RunView:
    """The folder of ``prefdelta learn``: the objectives over the steps."""
    lines = thinned([line for _, line in read_objects(root / LOG)])
    curves = [
        Curve(task.name, "merge", None, [[float(line["step"]), line["objectives"][task.name]] for line in lines])
        for task in results.tasks
    ]
    rows: list[Sequence[Cell]] = [
        [
            task.name,
            "" if task.anchor is None else f"{task.anchor:.4f}",
            *(f"{value:.4f}" for value in (task.first, task.last, task.last_weight)),
        ]
        for task in results.tasks
    ]
    return RunView(
        name=root.resolve().name,
        description=f"{len(results.adapters)} adapters merged with {results.method}",
        results=results,
        sentences=[
            f"{results.method} learned {results.coefficients} coefficients; the objective of all tasks went from "
            f"{results.first_total:.4f} to {results.last_total:.4f}."
        ],
        seeds=[results.seed],
        command=command_of(root),
        settings=dict(results.settings),
        charts=[Chart("Learning", "step", ["objective"], ["objective"], curves)],
        tables=[
            TableView(
                "Objectives", ["task", "own adapter alone", "first step", "last step", "weight in the last step"], rows
            )
        ],
        reads=[root],
    )
