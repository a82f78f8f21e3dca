"""``python -m evidence``: train and measure what is missing, then write the numbers and the figures."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from evidence.claims import claims
from evidence.deltas import adapters, model, trained
from evidence.figures import figures
from evidence.held_out import HeldOut
from evidence.measure import Bench, measured
from evidence.plan import PARTS, PLANS, Plan, steps
from prefdelta.core.files import replace_text, write_json

RESULTS = Path(__file__).parents[1] / "results"
DOCS = Path(__file__).parents[2] / "docs" / "images"


def rows(root: Path, plan: Plan, parts: Sequence[str], console: Console) -> Iterator[dict[str, Any]]:
    """Every cell of the parts, measured now or before, and the students themselves."""
    benches: dict[tuple[str, str], Bench] = {}
    fixed: dict[tuple[str, str], float] = {}
    for part in parts:
        for step in steps(plan, part):
            run = trained(root, step.deltas, console)
            student = model(root, step.deltas.family, "student")
            held_out = HeldOut(root, step.deltas.family, plan.prompts)
            for cell in step.cells:
                place = (cell.family, cell.domain)
                if place not in benches:
                    benches[place] = Bench(student, cell.domain, plan.sizes)
                    alone = benches[place].student(root / "cells", cell.family)
                    yield {"part": "student", "cell": asdict(cell), "tests": {"student": alone}}
                if part == "lengths":  # the λ that was right for one epoch, too
                    cell = replace(cell, fixed=fixed.get((cell.domain, cell.method)))
                folders = adapters(run, cell.domain, cell.seed, cell.members)
                own = held_out.own_scales(benches[place], folders)
                row = measured(cell, folders, own, benches[place], root / "cells")
                if part == "seeds" and cell.seed == plan.seeds[0]:
                    fixed[cell.domain, cell.method] = row["chosen"]["agreement"]
                chosen = row["chosen"]
                told = f"λ = {chosen['agreement']:g} by agreement, {chosen['labels']:g} by labels"
                console.print(f"{part}: {cell.name}: {told}", highlight=False)
                yield {"part": part, **row}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__)
    parser.add_argument("--size", choices=PLANS, default="full", help="how much is measured")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/evidence"), help="where runs and answers are")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    parser.add_argument("--results", type=Path, help="where numbers and figures go, instead of the repository's places")
    given = parser.parse_args()
    torch.set_num_threads(1)  # sums are added up in another order with another number of threads
    console, plan = Console(), PLANS[given.size]
    found = list(rows(given.output / given.size, plan, given.part or PARTS, console))
    results = {
        "command": f"python -m evidence --size {given.size}" + "".join(f" --part {part}" for part in given.part or ()),
        "plan": asdict(plan),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {"prefdelta": metadata.version("prefdelta"), "torch": torch.__version__},
        **claims(found),
    }
    suffix = "".join(f"-{part}" for part in given.part or ())  # the numbers of some parts never replace those of all
    numbers = (given.results or RESULTS) / f"evidence{suffix}.json"
    write_json(numbers, results)
    for name, picture in figures(results).items():
        replace_text((given.results or DOCS) / f"{name}.svg", picture)
    console.print(f"numbers: {numbers}", highlight=False)


if __name__ == "__main__":
    main()
