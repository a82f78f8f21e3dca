"""WRPO and merged preference deltas beside each other: one student, the same weak models, about as many answers.

``PYTHONPATH=scripts:benchmarks python benchmarks/wrpo_beside_pda.py`` trains the embedded student both ways on 2,000
questions of the reasoning domain, three seeds each, and writes ``benchmarks/results/wrpo_beside_pda.md``. What comes
out is measured as in ``evidence``: λ searched with one budget, by agreement and by labels, then other items. It can be
stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from evidence.deltas import SHIPPED, Deltas, adapters, trained
from evidence.intervals import Answers, over_seeds
from evidence.measure import Bench, Cell, Sizes, measured
from evidence.plan import FOUR
from rich.console import Console

from prefdelta.experiments.run import run_recipe
from prefdelta.recipe import load_recipe

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "wrpo_beside_pda.md"
SEEDS = (0, 1, 2)
SETTINGS = (
    "student=micro:student",
    "sources=[micro:ash-weak, micro:birch-weak, micro:cedar-weak, micro:elm-weak]",
    "prompts.count=2000",
    "sampling.n=2",
    "evaluate_sources=false",
)
FUSED = ("sft", "sft-dpo", "wrpo", "wrpo-half", "hybrid", "dpo")
MERGED = ("average", "ties", "truncate-ties")
WAYS = ("one", "agreement", "labels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/wrpo-beside-pda"), help="where the runs are")
    output = parser.parse_args().output
    torch.set_num_threads(1)
    console, bench = Console(), Bench("micro:student", "reasoning", Sizes(60, 500))
    fused = output / "wrpo"
    run_recipe(load_recipe(ROOT / "recipes" / "wrpo-micro.yaml", SETTINGS), fused, console=console)
    run = trained(output, Deltas(SHIPPED, SEEDS, domains=("reasoning",)), console)
    tests: dict[str, list[Mapping[str, Answers]]] = {}
    for seed in SEEDS:
        made = {name: ([fused / "adapters" / str(seed) / name], "average") for name in FUSED}
        made |= {f"merge: {name}": (adapters(run, "reasoning", seed, FOUR), name) for name in MERGED}
        for name, (folders, method) in made.items():
            cell = Cell(SHIPPED, "reasoning", seed, 1.0, tuple(folder.name for folder in folders), method)
            found: dict[str, Any] = measured(cell, folders, [], bench, output / "cells")
            tests.setdefault(name, []).append(found["tests"])
            console.print(f"{name}, seed {seed}: {found['chosen']}", highlight=False)
    student = bench.student(output / "cells", SHIPPED)
    RESULTS.write_text(page(student, tests), encoding="utf-8")


def page(student: Answers, tests: Mapping[str, Sequence[Mapping[str, Answers]]]) -> str:
    """The results as Markdown."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "peft"))
    lines = []
    for name, found in tests.items():
        ours = {way: [each[way] for each in found] for way in WAYS}
        gain = told(over_seeds(ours["agreement"], [student] * len(found)), "+")
        lines.append(f"| {name} | " + " | ".join(told(over_seeds(ours[way])) for way in WAYS) + f" | {gain} |")
    return "\n".join(
        [
            "# WRPO beside merged preference deltas",
            "",
            "Rerun: `PYTHONPATH=scripts:benchmarks python benchmarks/wrpo_beside_pda.py`.",
            "",
            f"Machine: {platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}.",
            "",
            f"`recipes/wrpo-micro.yaml` with {', '.join(f'`{setting}`' for setting in SETTINGS)}, against the",
            "four deltas of the demo's reasoning domain, each of a weak model and its weaker sibling. Three training",
            "seeds, 500 test items of each of four tasks; λ is searched in seven trials on 60 other items of each.",
            f"Percent right, with 95 % intervals over items and seeds; the student has {told(over_seeds([student]))}.",
            "",
            "| | λ = 1 | λ by agreement | λ by labels | by agreement, over the student |",
            "|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def told(found: Mapping[str, Any], sign: str = "") -> str:
    """A mean and its interval."""
    return f"{found['mean']:{sign}.1f} [{found['low']:{sign}.1f}, {found['high']:{sign}.1f}]"


if __name__ == "__main__":
    main()
