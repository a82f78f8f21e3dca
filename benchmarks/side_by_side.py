"""Time merges and trainings of this checkout beside those of another one, to see whether a change made them slower.

``git worktree add ../old REVISION && python benchmarks/side_by_side.py ../old`` runs the children of ``merge_speed.py``
and ``training_speed.py`` of both checkouts in turn, each in a process of its own, on the same generated adapters, model
and pairs. The least over all rounds is kept: what else the machine does only makes a round slower. The other checkout
must be able to import its dependencies from this Python. ``--quick`` does it with tiny sizes; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from merge_speed_cases import QUICK, QWEN3_8B, TWO_LAYERS, Case, generate
from training_speed import JOBS, QUIET, Job, make_model, processor

HERE = Path(__file__).resolve().parents[1]
RESULTS = HERE / "benchmarks" / "results" / "side_by_side.md"
METHODS = ("gam", "average", "svd", "tsv-m", "core-ties", "knots-ties")
FULL = (
    *(Case(TWO_LAYERS, method, 8, 16) for method in METHODS),
    Case(TWO_LAYERS, "gam", 4, 64),
    Case(QWEN3_8B, "gam", 8, 16),
)
Figures = dict[str, list[float]]
"""What is timed -> seconds, one of each of its parts; the least over the rounds so far."""


def merge_times(checkout: Path, case: Case, folder: Path, threads: int) -> Figures:
    """CPU and wall seconds of one merge."""
    adapters = [str(generate(folder, case.model, case.rank, index)) for index in range(case.count)]
    output = folder / "merged"
    job = {"adapters": adapters, "output": str(output), "method": case.method, "cold": case.cold, "what": "merge"}
    found = child(checkout, "merge_speed.py", ["--child", json.dumps(job)], threads)
    shutil.rmtree(output)
    name = f"{case.method}, {len(case.model.all_modules())} modules, N = {case.count}, r = {case.rank}"
    return {f"merge by {name}: CPU": [found["cpu"]], f"merge by {name}: wall": [found["wall"]]}


def training_times(checkout: Path, job: Job, folder: Path, threads: int) -> Figures:
    """Wall seconds of the reference, and of every step but the first."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        places = ["--model-folder", str(folder / "model"), "--folder", f"{name}/out", "--cache", f"{name}/cache"]
        words = ["--child", "prefdelta cold", "--job", json.dumps(asdict(job)), "--threads", str(threads)]
        found = child(checkout, "training_speed.py", [*words, *places], threads)
    ends = found["ends"]
    steps = [later - earlier for earlier, later in pairwise(ends)]
    return {"training by DPO: the reference": [found["reference"]], f"training by DPO: {len(steps)} steps": steps}


def child(checkout: Path, script: str, arguments: list[str], threads: int) -> dict[str, Any]:
    """What a benchmark of a checkout prints of one run, in a fresh process."""
    path = os.pathsep.join(str(checkout / part) for part in ("src", "benchmarks"))
    environment = {**os.environ, **QUIET, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(checkout / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{checkout}: {script} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1].removeprefix("MEASURED "))
    return found


def rounds(
    checkouts: list[Path], cases: tuple[Case, ...], job: Job, folder: Path, threads: int
) -> Iterator[list[Figures]]:
    """All figures of every checkout, round by round, without end; who goes first changes from round to round."""
    make_model(job, folder / "model")
    order = list(range(len(checkouts)))
    while True:
        found: list[Figures] = [{} for _ in checkouts]
        for case in cases:
            for place in order:
                found[place].update(merge_times(checkouts[place], case, folder, threads))
        for place in order:
            found[place].update(training_times(checkouts[place], job, folder, threads))
        order.reverse()
        yield found


def table(best: list[dict[str, list[float]]]) -> list[str]:
    """The least seconds of both, part by part, and their quotient."""
    lines = ["| | other s | this s | this / other |", "|---|---|---|---|"]
    for name in best[0]:
        other, this = (sum(figures[name]) for figures in best)
        lines.append(f"| {name} | {other:.3f} | {this:.3f} | {this / other:.2f} |")
    return lines


def report(best: list[Figures], other: Path, count: int, threads: int, load: list[float]) -> str:
    """The whole results page."""
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("torch", "transformers", "peft"))
    return "\n".join(
        [
            "# Side by side with another checkout",
            "",
            "Rerun: `git worktree add ../old REVISION`, then `python benchmarks/side_by_side.py ../old`.",
            "",
            f"This: {revision(HERE)}. Other: {revision(other)}.",
            "",
            f"Machine: {processor()}, {threads} thread(s) of {os.cpu_count()} cores; {platform.system()}, Python "
            f"{platform.python_version()}, {versions}. Load average (1 minute) {min(load):.1f} to {max(load):.1f}, "
            "about 1 of it its own.",
            "",
            f"Generated bfloat16 adapters with the shapes of Qwen3-8B's linear layers; DPO on the small Qwen3 of "
            f"`training_speed.py`. {count} rounds, in which both took turns; the least seconds over the rounds are "
            "given, of steps the sum of each step's least.",
            "",
            *table(best),
            "",
        ]
    )


def revision(checkout: Path) -> str:
    """The commit that is checked out."""
    command = ["git", "-C", str(checkout), "log", "-1", "--format=`%h` (%s)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where adapters and models lie meanwhile (needs up to 2 GB)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the report to write")
    arguments = parser.parse_args()
    checkouts = [arguments.other.resolve(), HERE]
    cases, job = (QUICK, JOBS["quick"]) if arguments.quick else (FULL, JOBS["tiny"])
    best: list[Figures] = [defaultdict(list), defaultdict(list)]
    load = []
    with tempfile.TemporaryDirectory(prefix="side_by_side.", dir=arguments.folder) as folder:
        for count, found in enumerate(rounds(checkouts, cases, job, Path(folder), arguments.threads), 1):
            for kept, new in zip(best, found, strict=True):
                for name, seconds in new.items():
                    kept[name] = [min(pair) for pair in zip(kept[name] or seconds, seconds, strict=True)]
            load.append(os.getloadavg()[0])
            text = report(best, checkouts[0], count, arguments.threads, load)
            arguments.output.write_text(text, encoding="utf-8")  # after every round: one may have to stop early
            print("\n".join([f"round {count}", *table(best)]), flush=True)
            if count == arguments.rounds:
                break


if __name__ == "__main__":
    main()
