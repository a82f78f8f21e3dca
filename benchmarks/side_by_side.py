"""Measure merges and trainings of this checkout beside those of another one, to see whether a change made them slower.

``git worktree add ../old REVISION && python benchmarks/side_by_side.py ../old`` lets both checkouts do the same work in
turn, each time in a process of its own: merges of the generated adapters of ``merge_speed.py``, and the training of
``training_speed.py``. What is told is CPU time, which other work on the machine disturbs less than the clock, and the
least of all rounds. Both are run by this Python. ``--quick`` does it with tiny sizes; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from merge_speed_cases import QUICK, QWEN3_8B, TWO_LAYERS, Case, generate
from training_speed import JOBS, QUIET, Job, make_model, processor

HERE = Path(__file__).resolve().parents[1]
RESULTS = HERE / "benchmarks" / "results" / "side_by_side.md"
METHODS = ("gam", "average", "svd", "tsv-m", "core-ties", "knots-ties")
FULL = (*(Case(TWO_LAYERS, method, 8, 16) for method in METHODS), Case(QWEN3_8B, "gam", 8, 16))
MERGE = """
import json, sys, time
from prefdelta import merge
adapters, output, method = json.loads(sys.argv[1])
for name in ("first", "second"):
    start = time.process_time()
    merge(adapters, f"{output}-{name}", method=method)
    print(time.process_time() - start)
"""
Seconds = dict[str, float]
"""What was done -> the CPU seconds that it took."""


def merges(checkout: Path, case: Case, folder: Path, threads: int) -> Seconds:
    """A process that merges twice: the whole of it, and the second merge, for which everything is imported."""
    adapters = [str(generate(folder, case.model, case.rank, index)) for index in range(case.count)]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        job = json.dumps([adapters, f"{scratch}/merged", case.method])
        whole, printed = run(checkout, ["-c", MERGE, job], threads)
    name = f"{case.method}, {len(case.model.all_modules())} modules, N = {case.count}, r = {case.rank}"
    return {f"import, and two merges by {name}": whole, f"the second merge by {name}": float(printed.split()[-1])}


def training(checkout: Path, job: Job, folder: Path, threads: int) -> Seconds:
    """A process that computes the reference and trains on it."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        places = ["--model-folder", str(folder / "model"), "--folder", f"{scratch}/out", "--cache", f"{scratch}/cache"]
        words = ["--child", "prefdelta cold", "--job", json.dumps(asdict(job)), "--threads", str(threads), *places]
        whole, _ = run(checkout, [str(checkout / "benchmarks" / "training_speed.py"), *words], threads)
    return {f"import, reference and {job.steps} steps of DPO": whole}


def run(checkout: Path, words: list[str], threads: int) -> tuple[float, str]:
    """CPU seconds of a process of a checkout, with its threads and the system's work for it, and what it printed."""
    path = os.pathsep.join(str(checkout / part) for part in ("src", "benchmarks"))
    environment = {**os.environ, **QUIET, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([sys.executable, *words], stdout=printed, stderr=told, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        told.seek(0)
        if process.returncode:
            raise SystemExit(f"{checkout} failed:\n{told.read()[-3000:]}")
        return usage.ru_utime + usage.ru_stime, printed.read()


def table(other: Seconds, this: Seconds) -> list[str]:
    """The least seconds of both, and their quotient."""
    rows = (f"| {name} | {other[name]:.2f} | {this[name]:.2f} | {this[name] / other[name]:.2f} |" for name in other)
    return ["| CPU seconds | other | this | this / other |", "|---|---|---|---|", *rows]


def report(other: Path, best: tuple[Seconds, Seconds], rounds: int, threads: int, load: list[float]) -> str:
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
            "Generated bfloat16 adapters with the shapes of Qwen3-8B's linear layers; DPO on the small Qwen3 of "
            f"`training_speed.py`. The two took turns, {rounds} rounds; the least CPU time of each is given.",
            "",
            *table(*best),
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
    other, threads = arguments.other.resolve(), arguments.threads
    cases, job = (QUICK[:2], JOBS["quick"]) if arguments.quick else (FULL, JOBS["tiny"])
    best: tuple[Seconds, Seconds] = ({}, {})
    load = []
    with tempfile.TemporaryDirectory(prefix="side_by_side.", dir=arguments.folder) as name:
        folder = Path(name)
        make_model(job, folder / "model")
        for number in range(1, arguments.rounds + 1):
            turns = [(other, best[0]), (HERE, best[1])]
            for checkout, least in turns if number % 2 else reversed(turns):
                found = training(checkout, job, folder, threads)
                for case in cases:
                    found |= merges(checkout, case, folder, threads)
                least |= {key: min(value, least.get(key, value)) for key, value in found.items()}
            load.append(os.getloadavg()[0])
            # After every round, so that a run that is ended early has not measured in vain.
            arguments.output.write_text(report(other, best, number, threads, load), encoding="utf-8")
            print("\n".join([f"round {number}", *table(*best)]), flush=True)


if __name__ == "__main__":
    main()
