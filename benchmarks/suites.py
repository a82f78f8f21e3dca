"""Run the suites that need no Hub, and keep their tables.

``python benchmarks/suites.py --data FOLDER`` runs ``recipes/suite-vision.yaml`` on ``FOLDER/vision`` and
``recipes/suite-nli.yaml`` on ``FOLDER``, or goes on with runs that are there already, and writes
``benchmarks/results/suite-vision.md`` and ``suite-nli.md`` and the pictures of their preference sweeps. Each page ends
with what entropy, the objective of the learned merges, says about accuracy on the same validation items.
``--suites suite-nli-minilm --set backbone.model=FOLDER`` does the same over a real encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from prefdelta.adapters import Adapter
from prefdelta.adapters.applied import adapted
from prefdelta.core.store import Store
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.run import run_recipe
from prefdelta.experiments.suites.measure import measure
from prefdelta.experiments.suites.plan import SuitePlan
from prefdelta.experiments.suites.suite_inputs import SuiteInputs
from prefdelta.experiments.suites.tuning import chosen_setting
from prefdelta.merging.learned.tasks import mean_objective
from prefdelta.recipe import load_recipe
from prefdelta.recipe.suite import SuiteRecipe

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--suites", nargs="+", default=["suite-vision", "suite-nli"])
    parser.add_argument("--set", action="append", default=[], dest="changes", help="a key of the recipes, KEY=VALUE")
    parser.add_argument("--note", default="", help="a sentence on the state of the machine")
    options = parser.parse_args(arguments)
    for name in options.suites:
        root = options.data / "vision" if name == "suite-vision" else options.data
        recipe = load_recipe(ROOT / "recipes" / f"{name}.yaml", (f"data={root.resolve()}", *options.changes))
        assert isinstance(recipe, SuiteRecipe)
        run = options.runs / name
        run_recipe(recipe, run)
        page = (run / "results.md").read_text(encoding="utf-8")
        keys = "".join(f" --set {change.partition('=')[0]}=…" for change in options.changes)
        text = f"{page}\n{entropy_section(recipe, run)}\n{how(name + keys, run, options.note)}"
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
        if recipe.preference is not None:
            (ROOT / "docs" / f"{name}-preference.svg").write_bytes((run / "preference.svg").read_bytes())


def how(suite: str, run: Path, note: str) -> str:
    """Where and how it was measured; ``suite`` is what follows ``--suites``."""
    entries = [json.loads(line) for line in (run / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    built = {entry["artifact"]: entry for entry in entries if entry["event"] == "built"}
    stages: dict[str, float] = {}
    for entry in built.values():
        stages[entry["stage"]] = stages.get(entry["stage"], 0.0) + entry["seconds"]
    spent = ", ".join(f"{stage} {seconds / 60:.1f}" for stage, seconds in stages.items())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        "## How it was measured\n\n"
        f"Rerun: `python benchmarks/suites.py --data FOLDER --suites {suite}`.\n\n"
        f"Machine: {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}, {torch.get_num_threads()} thread. {note}\n\n"
        f"Wall minutes by stage, {sum(stages.values()) / 60:.0f} in all (a stage that was killed counts from its last "
        f"start): {spent}.\n"
    )


def entropy_section(recipe: SuiteRecipe, run: Path) -> str:
    """Entropy and accuracy of every chosen merge on the first seed's validation items, and how they go together."""
    plan = plan_for(recipe, run)
    assert isinstance(plan, SuitePlan)
    store, seed = Store(run), recipe.seeds[0]
    (unit,) = [unit for unit in plan.units if unit.name == f"references/{seed}"]
    names = plan.suite.names
    loaded = SuiteInputs(recipe, {label: store.get(name) for label, name in unit.inputs.items()})  # type: ignore[misc]
    tasks = loaded.learning_tasks(names, recipe.evaluation_batch)
    trials = loaded.trials(names, "validation")
    entropies, accuracies, lines = [], [], []
    for method in recipe.methods:
        merge = store.get(f"merges/{seed}/{method.called}")
        tuning = store.get(f"tuning/{method.called}")
        assert merge is not None
        assert tuning is not None
        scale = chosen_setting(tuning, method).scale
        with adapted(loaded.encoder.model, Adapter.open(merge.path / "adapter"), scale, heads=False) as model:
            entropies.append([mean_objective(model, task) for task in tasks])
            found = measure(loaded.encoder, model, trials, None, batch=recipe.evaluation_batch)
        accuracies.append([found[name].accuracy for name in names])
        cells = [f"{h:.2f} / {100 * a:.1f}" for h, a in zip(entropies[-1], accuracies[-1], strict=True)]
        mean = f"{np.mean(entropies[-1]):.2f} / {100 * np.mean(accuracies[-1]):.1f}"
        lines.append(f"| {method.called} | {mean} | " + " | ".join(cells) + " |")
    ranks = [
        float(stats.spearmanr(np.array(entropies)[:, place], np.array(accuracies)[:, place]).statistic)
        for place in range(len(names))
    ]
    over_means = float(stats.spearmanr(np.mean(entropies, axis=1), np.mean(accuracies, axis=1)).statistic)
    header = "| method | mean | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2)
    last = f"| rank correlation over methods | {over_means:.2f} | " + " | ".join(f"{rank:.2f}" for rank in ranks) + " |"
    return (
        "Entropy in nats / accuracy in %, first seed's validation items (-1: lower entropy always goes with higher "
        "accuracy):\n\n" + "\n".join([header, *lines, last]) + "\n"
    )


if __name__ == "__main__":
    main()
