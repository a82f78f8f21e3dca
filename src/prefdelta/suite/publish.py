"""From the artifacts of a finished suite to ``results.json``, a table and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array
from prefdelta.learning.report import REPORT
from prefdelta.recipe.suite import LearnedMethod, MergeMethod, SuiteRecipe
from prefdelta.store import Artifact, Store, replace_text, write_json
from prefdelta.suite.adapters import ADAPTER
from prefdelta.suite.comparing import CHOSEN, TEST
from prefdelta.suite.front import draw_front
from prefdelta.suite.measure import Outcome, read_outcomes
from prefdelta.suite.statistics import correct, difference, hits, shares, summary
from prefdelta.suite.table import results_table

RESULTS = "results.json"
TABLE = "results.md"
FRONT = "preference.svg"


def publish_suite(recipe: SuiteRecipe, kept: Sequence[str], store: Store, artifacts: Mapping[str, Artifact]) -> Path:
    """Write what a finished suite has to say; returns the path of the table.

    Raises:
        PrefdeltaError: a file cannot be written.
    """
    results = summarise_suite(recipe, kept, artifacts)
    try:
        write_json(store.root / RESULTS, results)
        replace_text(store.root / TABLE, results_table(results, seconds_of(store.root)))
        if recipe.preference is not None:
            replace_text(store.root / FRONT, draw_front(results["preference"]))
    except OSError as error:
        raise PrefdeltaError(f"cannot write to {store.root}: {error.strerror or error}.") from error
    return store.root / TABLE


def summarise_suite(recipe: SuiteRecipe, kept: Sequence[str], artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """All numbers of a suite; equal artifacts give equal numbers."""
    names = [task.name for task in recipe.tasks]
    single = {seed: read_outcomes(artifacts[f"references/{seed}"].path / TEST) for seed in recipe.seeds}
    bare = {seed: read_outcomes(artifacts[f"references/{seed}"].path / "bare.safetensors") for seed in recipe.seeds}
    rows = {method.name: _outcomes(artifacts, "tests", recipe.seeds, method.name) for method in recipe.methods}
    unseen = [name for name in names if name not in kept]
    methods = {"backbone": _row(bare, single, names) | {"unseen": _plain(bare, unseen)}}
    items = {"backbone": _shares(bare, single, names)}
    for method in recipe.methods:
        items[method.name] = _shares(rows[method.name], single, names)
        methods[method.name] = _row(rows[method.name], single, names) | _about(recipe, method, artifacts)
        if unseen:
            left = _outcomes(artifacts, "unseen", recipe.seeds, method.name)
            methods[method.name]["unseen"] = _plain(left, unseen)
    return {
        "suite": recipe.name,
        "seeds": list(recipe.seeds),
        "tasks": names,
        "unseen_tasks": unseen,
        "budget": recipe.budget,
        "single": {
            name: round(100 * sum(single[seed][name].accuracy for seed in recipe.seeds) / len(recipe.seeds), 3)
            for name in names
        },
        "test_items": {name: len(single[recipe.seeds[0]][name].correct) for name in names},
        "classes": {name: _classes(artifacts, name) for name in names},
        "methods": methods,
        "differences": _differences(items),
        "preference": _preference(recipe, artifacts, single[recipe.seeds[0]]) if recipe.preference else None,
    }


def seconds_of(root: Path) -> dict[str, list[float]]:
    """Method -> how long its merges of all tasks took, by the run's journal; learned ones that were taken over from
    tuning say nothing and are left out.
    """
    found: dict[str, list[float]] = {}
    journal = root / "journal.jsonl"
    if not journal.is_file():
        return found
    entries = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    recipe = json.loads((root / "recipe.json").read_text(encoding="utf-8"))
    learned = {method["name"] for method in recipe["methods"] if "learn" in method}
    for entry in entries:
        parts = str(entry.get("artifact", "")).split("/")
        if parts[0] != "merges" or entry.get("resumed"):
            continue
        _, seed, method = parts
        if method not in learned or int(seed) != recipe["seeds"][0]:
            found.setdefault(method, []).append(float(entry["seconds"]))
    return found


def _outcomes(
    artifacts: Mapping[str, Artifact], stage: str, seeds: Sequence[int], method: str
) -> dict[int, dict[str, Outcome]]:
    return {seed: read_outcomes(artifacts[f"{stage}/{seed}/{method}"].path / TEST) for seed in seeds}


def _shares(
    ours: Mapping[int, Mapping[str, Outcome]], single: Mapping[int, Mapping[str, Outcome]], names: Sequence[str]
) -> list[Array]:
    return [shares([ours[seed][name] for seed in ours], [single[seed][name] for seed in ours]) for name in names]


def _row(
    ours: Mapping[int, Mapping[str, Outcome]], single: Mapping[int, Mapping[str, Outcome]], names: Sequence[str]
) -> dict[str, Any]:
    parts = _shares(ours, single, names)
    row: dict[str, Any] = {
        "mean": summary(parts),
        "tasks": {name: summary([part]) for name, part in zip(names, parts, strict=True)},
        "accuracy": {name: summary([correct([ours[seed][name] for seed in ours])]) for name in names},
    }
    if all(outcome.joint_place is not None for per_seed in ours.values() for outcome in per_seed.values()):
        pooled = [[ours[seed][name] for name in names] for seed in ours]
        row["joint"] = {str(k): summary([hits(pooled, k)]) for k in (1, 3, 5, 10)}
    return row


def _plain(ours: Mapping[int, Mapping[str, Outcome]], names: Sequence[str]) -> dict[str, Any] | None:
    """Accuracy on the unseen tasks."""
    if not names:
        return None
    parts = [correct([ours[seed][name] for seed in ours]) for name in names]
    return {
        "mean": summary(parts),
        "tasks": {name: summary([part]) for name, part in zip(names, parts, strict=True)},
    }


def _about(
    recipe: SuiteRecipe, method: MergeMethod | LearnedMethod, artifacts: Mapping[str, Artifact]
) -> dict[str, Any]:
    chosen = json.loads((artifacts[f"tuning/{method.name}"].path / CHOSEN).read_text(encoding="utf-8"))
    about: dict[str, Any] = {"setting": chosen["setting"], "validation": round(chosen["score"], 3), "coefficients": 0}
    if isinstance(method, LearnedMethod):
        folder = artifacts[f"merges/{recipe.seeds[0]}/{method.name}"].path / ADAPTER
        about["coefficients"] = json.loads((folder / REPORT).read_text(encoding="utf-8"))["coefficients"]
    return about


def _classes(artifacts: Mapping[str, Artifact], name: str) -> int:
    return len(json.loads((artifacts[f"data/{name}"].path / "classes.json").read_text(encoding="utf-8")))


def _differences(items: Mapping[str, Sequence[Array]]) -> dict[str, dict[str, float]]:
    """Every pair of methods, better one first: the mean difference in normalised accuracy, with its interval."""
    found = {}
    names = sorted(items, key=lambda name: -sum(float(part.mean()) for part in items[name]))
    for place, ours in enumerate(names):
        for theirs in names[place + 1 :]:
            gap = difference(items[ours], items[theirs])
            found[f"{ours} - {theirs}"] = {
                "mean": round(gap.mean, 3),
                "low": round(gap.low, 3),
                "high": round(gap.high, 3),
            }
    return found


def _preference(
    recipe: SuiteRecipe, artifacts: Mapping[str, Artifact], single: Mapping[str, Outcome]
) -> dict[str, Any]:
    sweep = recipe.preference
    assert sweep is not None
    points = []
    for weight in sweep.weights:
        outcomes = read_outcomes(artifacts[f"preference/{weight:g}"].path / TEST)
        scores = {name: 100 * outcome.accuracy / single[name].accuracy for name, outcome in outcomes.items()}
        others = [score for name, score in scores.items() if name != sweep.task]
        points.append(
            {
                "weight": weight,
                "task": round(scores[sweep.task], 3),
                "others": round(sum(others) / len(others), 3),
                "accuracy": {name: round(100 * outcome.accuracy, 3) for name, outcome in outcomes.items()},
            }
        )
    return {"method": sweep.method, "task": sweep.task, "points": points}
