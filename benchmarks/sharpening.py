"""Merges of truncated deltas beside average, TIES, GAM and joint training, each at a λ chosen without labels.

Deltas of the embedded student with several training seeds, and of families trained from other seeds:

    python -m micro_family.train --output runs/family200 --offset 200
    python benchmarks/sharpening.py train micro --seeds 0,1,3,4 -o runs/sharpening-micro
    python benchmarks/sharpening.py train runs/family200 --seeds 10,11 -o runs/sharpening-200
    python benchmarks/sharpening.py measure shipped runs/sharpening-micro --seeds 0,1 --rows runs/looked-at.jsonl
    python benchmarks/sharpening.py measure shipped runs/sharpening-micro --seeds 3,4 --rows runs/held-back.jsonl
    python benchmarks/sharpening.py measure 200 runs/sharpening-200 --student runs/family200/student --seeds 10,11 \
        --rows runs/held-back.jsonl
    python benchmarks/sharpening.py report runs/looked-at.jsonl runs/held-back.jsonl

``measure`` keeps every row that it has and goes on with the rest. ``report`` writes ``results/sharpening.md``.
``--quick`` asks a few questions only, to see that it works; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence.deltas import Deltas
from evidence.measure import SAMPLING, TASKS
from rich.console import Console
from scipy import stats

from prefdelta import micro
from prefdelta.adapters import Adapter
from prefdelta.agent import Environment
from prefdelta.core.models import load
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.statistics import paired_difference
from prefdelta.experiments.run import run_recipe
from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.merging.registry import Options, method
from prefdelta.merging.tuning.candidate import Candidate
from prefdelta.merging.tuning.line_search import maximise
from prefdelta.merging.tuning.objectives import Information, Labels, Objective
from prefdelta.merging.tuning.validation import Validation
from prefdelta.recipe import ModelRef, Search, configure_recipe

RESULTS = Path(__file__).parent / "results" / "sharpening.md"
BUDGET = 7


class PowerOptions(Options):
    """``power``: p."""

    power: float = 3.0


@method("power", summary="", paper="", options=PowerOptions)
def power(deltas: Sequence[LowRank], *, weights: Sequence[float], options: PowerOptions) -> LowRank:
    """Σ wᵢ Σ σᵢₖ (σᵢₖ/σᵢ₁)^(p-1) uᵢₖ vᵢₖᵀ, of which truncation is the hard form."""
    parts = []
    for delta in deltas:
        u, s, v = delta.svd()
        parts.append(LowRank(u * (s * (s / s[:1]) ** (options.power - 1)), v.T))
    return concat(parts, weights)


MERGES: dict[str, tuple[str, dict[str, Any]]] = {
    "average": ("average", {}),
    "ties .2": ("ties", {"density": 0.2}),
    "gam": ("gam", {"reference": 0}),
    "power 3": ("power", {"power": 3.0}),
    "truncate, 1 direction": ("truncate", {"directions": 1}),
    "truncate, 2 directions": ("truncate", {"directions": 2}),
    "truncate, energy .5": ("truncate", {"energy": 0.5}),
    "truncate-ties, 2 directions": ("truncate-ties", {"directions": 2}),
    "truncate-ties, energy .5": ("truncate-ties", {"energy": 0.5}),
}
"""What is compared -> method and options."""
SINGLES = [f"{what}: {name}" for name in ("average", "truncate, energy .5") for what in ("single", "joint")]
"""One delta, the best of four, and joint training, as they are and truncated."""


class Cell:
    """One domain of one family and one training seed: its deltas, and what merges of them are measured by."""

    def __init__(self, run: Path, domain: str, seed: int, student: str, *, quick: bool) -> None:
        trained = {path.name: path for path in sorted((run / domain / "adapters" / str(seed)).iterdir())}
        self.joint = Adapter.open(trained.pop("joint"))
        self.deltas = [Adapter.open(path) for path in trained.values()]
        tasks = TASKS[domain]
        setting: dict[str, Any] = {
            "scorers": dict.fromkeys(tasks, "exact-match"),
            "sampling": SAMPLING[domain],
            "search": (
                Environment.open(Search(corpus="micro:corpus", top_k=1, max_turns=4, max_words=350))
                if domain == "search"
                else None
            ),
        }
        evaluator = Evaluator(load(ModelRef(path=student)))
        ask, test = (4, 4) if quick else (60, 250)
        asked = {task: micro.items(task, split="validation", count=ask) for task in tasks}
        others = {task: micro.items(task, split="test", count=test) for task in tasks}
        self.agreement = Information(evaluator, items=asked, seed=0, **setting)
        self.labels = Labels(evaluator, items=asked, seed=0, **setting)
        self.test = Labels(evaluator, items=others, seed=1000, **setting)

    def tuned(self, adapters: Sequence[Any], name: str, by: Objective) -> dict[str, Any]:
        """The method at the λ that ``by`` chooses, on the test items."""
        merge, options = MERGES[name]
        validation = Validation(by, adapters, options={merge: options})
        unscaled = Candidate.plain(range(len(adapters)), merge, 1.0)
        start = validation.norm_matched(unscaled)
        scale = maximise(lambda scale: validation(unscaled.at(scale)), start, BUDGET)
        tried = sorted(float(candidate.scale) for candidate in validation.measured)
        merged = validation.merged(unscaled.at(scale))
        measured = self.test(merged)
        return {
            "scale": scale,
            "relative": scale / start,
            "edge": scale in (tried[0], tried[-1]),
            "score": 100 * measured.score,
            "by_item": [round(100 * value) for task in measured.by_item for value in task[0].tolist()],
        }


def measure(
    family: str, run: Path, student: str, seeds: Sequence[int], names: Sequence[str], done: set[str], *, quick: bool
) -> Iterator[dict[str, Any]]:
    """One row for each cell and name that is not in ``done``; λ of singles and of joint training by labels."""
    for seed in seeds:
        for domain in TASKS:
            cell: Cell | None = None
            for name in names:
                key = f"{family}/{domain}/{seed}/{name}"
                if key in done:
                    continue
                cell = cell or Cell(run, domain, seed, student, quick=quick)
                row: dict[str, Any] = {"family": family, "domain": domain, "seed": seed, "merge": name, "key": key}
                what, _, treatment = name.partition(": ")
                if what == "joint":
                    row |= cell.tuned([cell.joint], treatment, cell.labels)
                elif what == "single":
                    rows = [cell.tuned([delta], treatment, cell.labels) for delta in cell.deltas]
                    row |= max(rows, key=lambda each: float(each["score"]))
                else:
                    row |= cell.tuned(cell.deltas, name, cell.agreement)
                yield row


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Scores by cell, and each truncated merge's mean distance to what it is compared with."""
    cells = list(dict.fromkeys((row["family"], row["domain"], row["seed"]) for row in rows))
    names = [name for name in [*MERGES, *SINGLES] if any(row["merge"] == name for row in rows)]
    found = {(row["family"], row["domain"], row["seed"], row["merge"]): row for row in rows}

    def both(name: str, other: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [(found[(*c, name)], found[(*c, other)]) for c in cells if {(*c, name), (*c, other)} <= found.keys()]

    heads = " | ".join(f"{family}, {domain} {seed}" for family, domain, seed in cells)
    lines = [f"| | {heads} | mean |", "|---" * (len(cells) + 2) + "|"]
    for name in names:
        scores = [found.get((*cell, name)) for cell in cells]
        shown = [f"{row['score']:.1f}{' (edge)' if row['edge'] else ''}" if row else "" for row in scores]
        measured = [row["score"] for row in scores if row]
        lines.append(f"| {name} | {' | '.join(shown)} | {sum(measured) / len(measured):.1f} |")
    ours = [name for name in names if name.startswith(("truncate", "power"))]
    others = [name for name in names if name not in ours]
    lines += ["", f"| over → | {' | '.join(others)} |", "|---" * (len(others) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(over(both(name, other)) for other in others)} |" for name in ours]
    lines += ["", "Over TIES in each cell, with the 95 % interval over the cell's test items:", ""]
    lines += [f"| | {heads} |", "|---" * (len(cells) + 1) + "|"]
    for name in ours:
        lines.append(f"| {name} | {' | '.join(items(one, other) for one, other in both(name, 'ties .2'))} |")
    return lines


def over(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The mean difference over cells, in how many it is above 0, and Student's 95 % interval where there are three."""
    gaps = np.array([one["score"] - other["score"] for one, other in pairs])
    ahead = f"{int((gaps > 0).sum())} of {len(gaps)}"
    if len(gaps) < 3:
        return f"{gaps.mean():+.1f}, {ahead}"
    half = float(stats.t.ppf(0.975, len(gaps) - 1)) * float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    low, high = gaps.mean() - half, gaps.mean() + half
    return f"{gaps.mean():+.1f} [{low:+.1f}, {high:+.1f}], {ahead}"


def items(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The difference of two merges of one cell, paired by item."""
    gaps = np.array([one["by_item"]], dtype=float) - np.array([other["by_item"]], dtype=float)
    gap = paired_difference([gaps], unit=100.0)
    return f"{gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"


def report(looked_at: Path, held_back: Path) -> str:
    """The page."""
    parts = [
        "# Sharpened merges",
        "",
        "Deltas of embedded students (DPO in reasoning, ORPO in search, r = 8, four to a domain), merged in several",
        "ways. λ of every merge is chosen **without labels**, by agreement on 60 validation questions a task, from at",
        f"most {BUDGET} λ around the one at which the merge is as long as its mean member; the score is of 250 other",
        "test items a task. Single deltas and joint training choose λ by labels, and the best single is picked on the",
        "test items, so that margins over it are on the low side. *Edge*: the best λ is the last that was tried.",
        "Method, options and defaults were fixed before the cells below *Held back* were measured, and those were",
        "measured once: new training seeds of the shipped family, and a family whose student and weak models were",
        "trained from other seeds. Intervals over cells take cells as independent; those of one family share their",
        "models. All of it is one kind of task and models of 0.1 million parameters.",
        "",
        "In search, on the family from other seeds, agreement misleads GAM's λ: with seed 10 it chooses 10.4 λ₀, where",
        "answers agree most and 25.5 % are right; at 4 λ₀ 47.1 % are (test items, looked at later), and labels would",
        "choose. KL from the base is 0.26 nats a token, below the guard's limit. So GAM's two low scores are of its",
        "λ as much as of its direction, and the distances to it in these tables are no measure of directions.",
        "",
        f"Machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, PyTorch {torch.__version__}.",
        f"Rerun: the docstring of `benchmarks/{Path(__file__).name}`.",
    ]
    for title, path in (("Cells that were looked at while the method was made", looked_at), ("Held back", held_back)):
        parts += ["", f"## {title}", "", *table([json.loads(line) for line in path.read_text("utf-8").splitlines()])]
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("family", help="micro, or a folder that micro_family.train wrote")
    training.add_argument("--rank", type=int, default=8)
    training.add_argument("-o", "--output", type=Path, required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("name", help="what the family is called in the table")
    measuring.add_argument("run", type=Path)
    measuring.add_argument("--student", default="micro:student")
    measuring.add_argument("--rows", type=Path, required=True)
    measuring.add_argument("--merges", default=";".join(MERGES), help="names, between semicolons")
    measuring.add_argument("--singles", action="store_true", help="also each delta and joint training by itself")
    measuring.add_argument("--quick", action="store_true")
    for command in (training, measuring):
        command.add_argument("--seeds", default="0")
    reporting = commands.add_parser("report")
    reporting.add_argument("looked_at", type=Path)
    reporting.add_argument("held_back", type=Path)
    given = parser.parse_args()
    if given.command == "report":
        RESULTS.write_text(report(given.looked_at, given.held_back), encoding="utf-8")
        return
    seeds = [int(seed) for seed in given.seeds.split(",")]
    if given.command == "train":
        deltas = Deltas(given.family, tuple(seeds), baselines=("joint",), rank=given.rank)
        recipe = configure_recipe(deltas.recipe(given.family), origin="sharpening")
        run_recipe(recipe, given.output, console=Console())
        return
    done = set()
    if given.rows.exists():
        done = {json.loads(line)["key"] for line in given.rows.read_text("utf-8").splitlines()}
    names = [*given.merges.split(";"), *(SINGLES if given.singles else ())]
    for row in measure(given.name, given.run, given.student, seeds, names, done, quick=given.quick):
        with given.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['key']}: {row['score']:.1f} at {row['relative']:.2f} λ₀", flush=True)


if __name__ == "__main__":
    main()
