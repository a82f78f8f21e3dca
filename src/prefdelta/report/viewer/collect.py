"""What the viewer shows of any output of ours, by the kind of its typed results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import MANIFEST, damage
from prefdelta.evaluation.results import (
    RESULTS,
    AggregationResults,
    ComparisonResults,
    EvaluationResults,
    FusionResults,
    JudgedResults,
    SuiteResults,
)
from prefdelta.merging.tuning.record import TuningRecord
from prefdelta.report.results import AnyResults, read_results
from prefdelta.report.viewer.aggregation import aggregation_view
from prefdelta.report.viewer.comparing import comparison_view
from prefdelta.report.viewer.fusion import fusion_view
from prefdelta.report.viewer.single import evaluation_view, judged_view
from prefdelta.report.viewer.suite import suite_view
from prefdelta.report.viewer.tuned import learned_view, tuning_view
from prefdelta.report.viewer.view import RunView

_FILES = (RESULTS, "judged.json", "prefdelta_tuning.json", "learning.json")


def collect(path: Path) -> RunView:
    """Read what there is to see in a folder, or in a file of typed results.

    Raises:
        PrefdeltaError: it holds no results, or a file of it is missing or was changed after it was written.
    """
    if path.is_file():
        results = read_results(path)
        if isinstance(results, ComparisonResults):
            return comparison_view(results, path)
        raise PrefdeltaError(f"{path} holds {results.kind} results; give the folder that it lies in.")
    file = next((path / name for name in _FILES if (path / name).is_file()), None)
    if file is None:
        raise PrefdeltaError(
            f"{path} holds no results.json; give the folder of a finished run, or what `prefdelta evaluate`, `judge`, "
            "`tune` or `learn` wrote."
        )
    if (path / MANIFEST).is_file() and (found := damage(path)):
        raise PrefdeltaError(f"{found[0]}; make it again, then look at it.")
    view = _view(path, read_results(file))
    report = path / "report.html"
    return replace(view, report=report.read_text(encoding="utf-8")) if report.is_file() else view


def _view(root: Path, results: AnyResults) -> RunView:
    match results:
        case AggregationResults():
            return aggregation_view(root, results)
        case FusionResults():
            return fusion_view(root, results)
        case SuiteResults():
            return suite_view(root, results)
        case EvaluationResults():
            return evaluation_view(root, results)
        case JudgedResults():
            return judged_view(root, results)
        case TuningRecord():
            return tuning_view(root, results)
        case ComparisonResults():
            return comparison_view(results, root)
        case _:
            return learned_view(root, results)
