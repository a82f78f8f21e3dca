"""How well the scheduler fills many workers: its real loop, on workers that only take time, in simulated time.

``python benchmarks/scheduler_simulation.py RUN`` plans a recipe of about 1,000 units, gives each the seconds of a unit
of its stage in the journal of the finished run RUN (drawn with a seed), and lets ``execute`` hand them to 1 to 128
workers, of which some are lost. It writes ``benchmarks/results/scheduler_simulation.md``.
``--quick`` plans a small recipe.

- The lower bound is the longer of: all work divided by the workers, and the longest chain of units that need each
  other.
- A lost worker loses all that it had done of its unit, and is replaced at once. Real units of the long stages continue.
- The overhead is the scheduler's own CPU time for a unit, with the look at the disk whether it is there.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.progress import Display
from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.execution.scheduler import RESUBMISSIONS, Executor, Lost, Made, News, execute
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.unit import Unit
from prefdelta.recipe import configure_recipe

RESULTS = Path(__file__).parent / "results" / "scheduler_simulation.md"


class Simulated(Executor):
    """Workers that take a unit's seconds of simulated time, and lose the unit with a given chance each time."""

    lanes = 1

    def __init__(self, costs: Mapping[str, float], workers: int, loss: float, seed: int) -> None:
        self.now = 0.0
        self._costs = costs
        self._workers = workers
        self._loss = loss
        self._random = random.Random(seed)
        self._running: list[tuple[float, str, bool]] = []

    def free(self) -> bool:
        return len(self._running) < self._workers

    def submit(self, unit: Unit, inputs: Mapping[str, Artifact]) -> None:
        lost = self._random.random() < self._loss
        share = self._random.random() if lost else 1.0
        heapq.heappush(self._running, (self.now + share * self._costs[unit.name], unit.name, lost))

    def news(self) -> Iterator[News]:
        self.now, name, lost = heapq.heappop(self._running)
        yield Lost(name, "was lost") if lost else Made(name, Artifact(Path(name), name))


def recipe(deltas: int, seeds: int) -> dict[str, Any]:
    """A recipe with many deltas and seeds."""
    names = ("ash", "elm", "birch", "cedar")
    search = {
        "prompts": {"source": "micro:search", "count": 96},
        "search": {"corpus": "micro:corpus", "top_k": 1, "max_turns": 4},
        "deltas": [
            {
                "name": f"{names[n % 4]}{n}",
                "weak": f"micro:{names[n % 4]}-weak",
                "weaker": f"micro:{names[n % 4]}-weaker",
            }
            for n in range(deltas)
        ],
        "training": {"max_length": 256, "batch_size": 16},
        "benchmarks": [{"name": "lookup", "questions": {"source": "micro:lookup"}, "validation": 16, "test": 24}],
    }
    return {
        "name": "wide",
        "student": "micro:student",
        "seeds": list(range(seeds)),
        "domains": {"search": search},
        "merge": {"methods": ["average", "ties", "gam"], "scales": [1.0, 2.0, 4.0]},
    }


def seconds_by_stage(run: Path) -> dict[str, list[float]]:
    """What units of each stage took, by the journal of a finished run."""
    found: dict[str, list[float]] = {}
    for line in (run / "journal.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["event"] == "built":
            found.setdefault(entry["stage"], []).append(entry["seconds"])
    return found


def longest_chain(units: Sequence[Unit], costs: Mapping[str, float]) -> float:
    """Seconds of the longest chain of units that need each other."""
    ends: dict[str, float] = {}
    for unit in units:
        ends[unit.name] = costs[unit.name] + max((ends[name] for name in unit.inputs.values()), default=0.0)
    return max(ends.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder, for what units take")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    measured = seconds_by_stage(arguments.run)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        deltas, seeds = (4, 1) if arguments.quick else (32, 12)
        units = plan_for(configure_recipe(recipe(deltas, seeds), origin="wide"), root).units
        rng = random.Random(0)
        everything = [seconds for values in measured.values() for seconds in values]
        costs = {unit.name: rng.choice(measured.get(unit.stage) or everything) for unit in units}
        work, chain = sum(costs.values()), longest_chain(units, costs)
        rows, overhead = [], []
        for workers in (1, 2, 4, 8, 16, 32, 64, 128):
            bound = max(work / workers, chain)
            cells = [f"{bound:.1f}"]
            for loss in (0.0, 0.01, 0.05):
                simulated = Simulated(costs, workers, loss, seed=workers)
                started = time.process_time()
                execute(units, Store(root, journal=False), simulated, Display(None))
                overhead.append((time.process_time() - started) / len(units))
                cells.append(f"{simulated.now:.1f} ({simulated.now / bound:.3f})")
            rows.append(f"| {workers} | " + " | ".join(cells) + " |")
    print("\n".join(rows))
    arguments.output.write_text(
        TEXT.format(
            machine=f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}",
            units=len(units),
            work=work,
            chain=chain,
            milliseconds=1000 * sorted(overhead)[len(overhead) // 2],
            rows="\n".join(rows),
            stages=", ".join(f"{stage} {sum(values) / len(values):.2f}" for stage, values in sorted(measured.items())),
            resubmissions=RESUBMISSIONS,
        ),
        encoding="utf-8",
    )


TEXT = """# The scheduler on many workers, simulated

Rerun: `python benchmarks/scheduler_simulation.py RUN`. Machine: {machine}.

{units} units, planned from a recipe of 32 deltas and 12 seeds; each takes the seconds of a unit of its stage in a
finished run (means: {stages}). All work is {work:.1f} s, the longest chain of units that need each other {chain:.1f} s.
The loop is the scheduler's own; only the workers are simulated. A unit loses its worker with the chance at the head of
the column, each time it is made, and then begins again from nothing; it is handed out again {resubmissions} times.

Seconds until the last unit, and in brackets how many times the lower bound without losses:

| workers | lower bound | no losses | 1 % lost | 5 % lost |
|---|---|---|---|---|
{rows}

The scheduler's own work for a unit, with the look whether its artifact is there: {milliseconds:.2f} ms of CPU (median).
"""


if __name__ == "__main__":
    main()
