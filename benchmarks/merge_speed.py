"""Time merges of adapters the size of Qwen3-8B's against the floor of input and output, and against PEFT and mergekit.

``python benchmarks/merge_speed.py`` generates bfloat16 adapters for all 252 modules, merges them with several methods,
and writes ``benchmarks/results/merge_speed.md``. Every merge runs in a process of its own, so that its peak memory is
its own. ``--quick`` does the same with tiny modules in seconds, to see that it works; its numbers mean nothing.

- The floor reads every byte of the input files and writes (and syncs to disk) as many bytes as the merged adapter
  has, in one thread, and computes nothing.
- PEFT's ``add_weighted_adapter`` is timed on a sample of modules and scaled to all of them, as the table says: its
  ``svd`` takes half a minute for a single module.
- mergekit merges whole checkpoints: with ``--mergekit PATH``, the ``mergekit-yaml`` of an environment of its own, it is
  given a checkpoint of one layer and adapters to bake into it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merge_speed_cases import FULL, QUICK, Case, Measured, child, generate
from merge_speed_peers import measure_mergekit, measure_peft, time_peft
from merge_speed_report import report

from prefdelta.adapters.sources import SAFETENSORS_NAME
from prefdelta.merging import merge

RESULTS = Path(__file__).parent / "results" / "merge_speed.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny modules, in seconds")
    parser.add_argument("--folder", type=Path, help="where the generated adapters lie meanwhile (needs up to 9 GB)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the report to write")
    parser.add_argument("--only", help="methods to run, separated by commas")
    parser.add_argument("--without-peft", action="store_true", help="leave PEFT out")
    parser.add_argument("--mergekit", help="the mergekit-yaml of an environment of its own; left out otherwise")
    parser.add_argument("--note", default="", help="a sentence for the report on what else the machine did")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_child(json.loads(arguments.child))))
        return
    cases = QUICK if arguments.quick else FULL
    if arguments.only:
        cases = tuple(case for case in cases if case.method in arguments.only.split(","))
    folder = Path(tempfile.mkdtemp(prefix="merge_speed.", dir=arguments.folder))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    measured: list[Measured] = []
    load = [os.getloadavg()]
    try:
        peft = [] if arguments.without_peft else measure_peft(arguments.quick)
        for case in cases:
            measured.append((case, measure(case, folder)))
            load.append(os.getloadavg())
            arguments.output.write_text(report(measured, peft, None, load, arguments.note), encoding="utf-8")
        if arguments.mergekit:
            mergekit = measure_mergekit(arguments.mergekit, folder)
            arguments.output.write_text(report(measured, peft, mergekit, load, arguments.note), encoding="utf-8")
    finally:
        shutil.rmtree(folder)
    print(f"written to {arguments.output}")


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """The floor and the merge of one case, each in a fresh process."""
    adapters = [str(generate(folder, case.model, case.rank, index)) for index in range(case.count)]
    output = folder / "merged"
    job = {"adapters": adapters, "output": str(output), "method": case.method, "cold": case.cold}
    runs = []
    for _ in range(case.runs):
        try:
            merged = child({**job, "what": "merge"})
            written = sum(path.stat().st_size for path in output.iterdir())
            floor = child({**job, "what": "floor", "bytes": written})
        finally:
            shutil.rmtree(output, ignore_errors=True)
        runs.append({**merged, "floor": floor["wall"]})
    result = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    print(
        f"{case.model.name} {case.method} N={case.count} r={case.rank}{' cold' if case.cold else ''}: "
        f"{result['wall']:.2f} s, floor {result['floor']:.2f} s, {result['peak'] / 2**30:.2f} GiB",
        flush=True,
    )
    return result


def run_child(job: dict[str, Any]) -> dict[str, Any]:
    if job["what"] == "peft":
        return time_peft(**job["arguments"])
    files = [Path(adapter) / SAFETENSORS_NAME for adapter in job["adapters"]]
    for file in files:
        if job["cold"]:
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            read_through(file)
    before, cpu = io_counts(), time.process_time()
    start = time.perf_counter()
    if job["what"] == "floor":
        floor(files, Path(job["output"] + ".floor"), job["bytes"])
    else:
        merge(job["adapters"], job["output"], method=job["method"])
    wall = time.perf_counter() - start
    after = io_counts()
    return {
        "wall": wall,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "read": after[0] - before[0],
        "written": after[1] - before[1],
    }


def read_through(file: Path) -> bytearray:
    """Read a file from end to end."""
    buffer = bytearray(1 << 22)
    with file.open("rb", buffering=0) as handle:
        while handle.readinto(buffer):
            pass
    return buffer


def floor(files: Sequence[Path], output: Path, size: int) -> None:
    """Read every file, write ``size`` bytes, sync them."""
    buffer = bytearray()
    for file in files:
        buffer = read_through(file)
    with output.open("wb", buffering=0) as handle:
        while size > 0:
            size -= handle.write(memoryview(buffer)[: min(size, len(buffer))])
        os.fsync(handle.fileno())
    output.unlink()


def io_counts() -> tuple[int, int]:
    """Bytes that this process has read and written through system calls, from Linux's /proc."""
    lines = Path("/proc/self/io").read_text().splitlines()
    counts = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
    return counts["rchar"], counts["wchar"]


if __name__ == "__main__":
    main()
