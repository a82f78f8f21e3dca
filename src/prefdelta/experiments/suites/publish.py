"""From the artifacts of a finished suite to ``results.json``, a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.files import replace_text, write_json
from prefdelta.core.store import Artifact, Store, builds
from prefdelta.evaluation.results import (
    RESULTS,
    Interval,
    PreferenceSweep,
    SuiteMethod,
    SuiteResults,
    SuiteScores,
    SweepPoint,
)
from prefdelta.evaluation.score_table import ScoreTable
from prefdelta.experiments.plan import FRONT, TABLE
from prefdelta.experiments.suites.accuracy_tables import Outcomes, accuracy_table, hits_table, shares_table
from prefdelta.experiments.suites.data.task import read_classes
from prefdelta.experiments.suites.measure import Outcome, read_outcomes
from prefdelta.experiments.suites.results_markdown import results_markdown
from prefdelta.experiments.suites.suite_context import BACKBONE, SuiteContext
from prefdelta.experiments.suites.suite_inputs import ADAPTER
from prefdelta.experiments.suites.tuning import BARE, CHOSEN, TEST
from prefdelta.merging.learned.report import REPORT
from prefdelta.recipe.suite import LearnedMethod, SuiteRecipe
from prefdelta.report.pareto_front import draw_front

HITS = (1, 3, 5, 10)


def publish_suite(suite: SuiteContext, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
    """Write what a finished suite has to say; returns the path of the table.

    Raises:
        OSError: a file cannot be written.
    """
    results = summarise_suite(suite, artifacts)
    write_json(store.root / RESULTS, results.to_json())
    replace_text(store.root / TABLE, results_markdown(results, _seconds_of(suite.recipe, store.root)))
    if results.preference is not None:
        replace_text(store.root / FRONT, draw_front(results.preference))
    return store.root / TABLE


def summarise_suite(suite: SuiteContext, artifacts: Mapping[str, Artifact]) -> SuiteResults:
    """All numbers of a suite; equal artifacts give equal numbers."""
    recipe, names = suite.recipe, suite.names
    unseen = [name for name in names if name not in suite.kept]
    single = {seed: read_outcomes(artifacts[f"references/{seed}"].path / TEST) for seed in recipe.seeds}
    bare = {seed: read_outcomes(artifacts[f"references/{seed}"].path / BARE) for seed in recipe.seeds}
    merged = {method.called: _outcomes(artifacts, "tests", recipe.seeds, method.called) for method in recipe.methods}
    models: dict[str, Outcomes] = {BACKBONE: bare, **merged}
    shares = shares_table(models, single, names)
    accuracy = accuracy_table(models, names)
    left_out = _unseen(recipe, unseen, bare, artifacts)
    joint = _joint(models, names)
    own = accuracy_table({"single": single}, names)
    return SuiteResults(
        recipe=recipe.name,
        seeds=list(recipe.seeds),
        tasks=names,
        unseen_tasks=unseen,
        budget=recipe.budget,
        single={name: own.score("single", name) for name in names},
        test_items={name: own.items(name) for name in names},
        classes={name: len(read_classes(artifacts[f"data/{name}"].path)) for name in names},
        methods={
            model: SuiteMethod(
                mean=shares.mean(model),
                tasks={name: shares.mean(model, name) for name in names},
                accuracy={name: accuracy.mean(model, name) for name in names},
                joint=joint.get(model),
                unseen=left_out.get(model),
                **({} if model == BACKBONE else _about(recipe, model, artifacts)),
            )
            for model in models
        },
        differences=_differences(shares),
        preference=_preference(recipe, artifacts, single[recipe.seeds[0]]) if recipe.preference else None,
    )


def _seconds_of(recipe: SuiteRecipe, root: Path) -> dict[str, list[float]]:
    """Method -> how long its merges of all tasks took, by the run's journal; learned ones that were taken over from
    tuning say nothing and are left out.
    """
    found: dict[str, list[float]] = {}
    learned = {method.called for method in recipe.methods if isinstance(method, LearnedMethod)}
    for entry in builds(root):
        stage, *where = str(entry["artifact"]).split("/")
        if stage == "merges" and not entry["resumed"]:
            seed, method = where
            if method not in learned or int(seed) != recipe.seeds[0]:
                found.setdefault(method, []).append(float(entry["seconds"]))
    return found


def _outcomes(
    artifacts: Mapping[str, Artifact], stage: str, seeds: Sequence[int], method: str
) -> dict[int, dict[str, Outcome]]:
    return {seed: read_outcomes(artifacts[f"{stage}/{seed}/{method}"].path / TEST) for seed in seeds}


def _unseen(
    recipe: SuiteRecipe, unseen: Sequence[str], bare: Outcomes, artifacts: Mapping[str, Artifact]
) -> dict[str, SuiteScores]:
    """Model -> accuracy on the tasks that were not merged."""
    if not unseen:
        return {}
    left = {method.called: _outcomes(artifacts, "unseen", recipe.seeds, method.called) for method in recipe.methods}
    table = accuracy_table({BACKBONE: bare, **left}, unseen)
    return {
        model: SuiteScores(mean=table.mean(model), tasks={name: table.mean(model, name) for name in unseen})
        for model in table.models
    }


def _joint(models: Mapping[str, Outcomes], names: Sequence[str]) -> dict[str, dict[str, Interval]]:
    """Model -> k -> joint Hits@k, of the models that were measured under a joint head."""
    measured = {
        model: ours
        for model, ours in models.items()
        if all(outcome.joint_place is not None for per_seed in ours.values() for outcome in per_seed.values())
    }
    tables = {k: hits_table(measured, names, k) for k in HITS}
    return {model: {str(k): table.mean(model) for k, table in tables.items()} for model in measured}


def _about(recipe: SuiteRecipe, name: str, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """What a method was set to, its validation score, and how many coefficients it learned."""
    (method,) = [method for method in recipe.methods if method.called == name]
    chosen = artifacts[f"tuning/{name}"].json(CHOSEN)
    about: dict[str, Any] = {
        "setting": chosen["setting"],
        "edge": chosen["edge"],
        "validation": chosen["score"],
        "coefficients": 0,
    }
    if isinstance(method, LearnedMethod):
        merged = artifacts[f"merges/{recipe.seeds[0]}/{name}"]
        about["coefficients"] = merged.json(f"{ADAPTER}/{REPORT}")["coefficients"]
    return about


def _differences(shares: ScoreTable) -> dict[str, Interval]:
    """Every pair of methods, better one first: the mean difference in normalised accuracy, with its interval."""
    names = sorted(shares.models, key=lambda name: -shares.score(name))
    return {
        f"{ours} - {theirs}": shares.interval(ours, theirs)
        for place, ours in enumerate(names)
        for theirs in names[place + 1 :]
    }


def _preference(
    recipe: SuiteRecipe, artifacts: Mapping[str, Artifact], single: Mapping[str, Outcome]
) -> PreferenceSweep:
    sweep = recipe.preference
    assert sweep is not None
    points = []
    for weight in sweep.weights:
        outcomes = read_outcomes(artifacts[f"preference/{weight:g}"].path / TEST)
        scores = {name: 100 * outcome.accuracy / single[name].accuracy for name, outcome in outcomes.items()}
        others = [score for name, score in scores.items() if name != sweep.task]
        points.append(
            SweepPoint(
                weight=weight,
                task=scores[sweep.task],
                others=sum(others) / len(others),
                accuracy={name: 100 * outcome.accuracy for name, outcome in outcomes.items()},
            )
        )
    return PreferenceSweep(method=sweep.method, task=sweep.task, points=points)
