"""Time merges of adapters the size of Qwen3-8B's against the floor of input and output, and against PEFT.

``python benchmarks/merge_speed.py`` generates bfloat16 adapters for all 252 modules, merges them with several methods,
and writes ``benchmarks/results/merge_speed.md``. Every merge runs in a process of its own, so that its peak memory is
its own. ``--quick`` does the same with tiny modules in seconds, to see that it works; its numbers mean nothing.

- The floor reads every byte of the input files and writes (and syncs to disk) as many bytes as the merged adapter
  has, in one thread, and computes nothing.
- PEFT's ``add_weighted_adapter`` is timed on a sample of modules and scaled to all of them, as the table says: its
  ``svd`` needs minutes for a single module.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prefdelta.adapter import AdapterInfo, write_adapter
from prefdelta.adapter.reader import SAFETENSORS_NAME
from prefdelta.lowrank import LowRank
from prefdelta.merging import merge

RESULTS = Path(__file__).parent / "results" / "merge_speed.md"
Shape = tuple[int, int]


@dataclass(frozen=True)
class Model:
    """The linear layers of one decoder layer (name → (d_out, d_in)), and how many layers there are."""

    layers: int
    modules: dict[str, Shape]

    def all_modules(self) -> Iterator[tuple[str, Shape]]:
        for layer in range(self.layers):
            for name, shape in self.modules.items():
                yield f"model.layers.{layer}.{name}", shape


QWEN3_8B = Model(
    36,
    {
        "self_attn.q_proj": (4096, 4096),
        "self_attn.k_proj": (1024, 4096),
        "self_attn.v_proj": (1024, 4096),
        "self_attn.o_proj": (4096, 4096),
        "mlp.gate_proj": (12288, 4096),
        "mlp.up_proj": (12288, 4096),
        "mlp.down_proj": (4096, 12288),
    },
)
TINY = Model(2, {"self_attn.q_proj": (192, 160), "self_attn.k_proj": (96, 160), "mlp.down_proj": (160, 256)})


@dataclass(frozen=True)
class Case:
    """One merge: the method, how many adapters, of what rank; ``cold``: with the inputs out of the page cache."""

    method: str
    count: int
    rank: int
    cold: bool = False


FULL_CASES = (
    Case("gam", 4, 64),
    Case("gam", 4, 64, cold=True),
    *(Case(method, 4, 64) for method in ("svd", "average")),
    *(Case(method, 8, 16) for method in ("gam", "average", "svd", "tsv-m", "core-ties", "knots-ties")),
    Case("svd", 16, 64),
    *(Case("gam", count, 64) for count in (8, 16)),
    *(Case(method, count, 16) for count in (4, 16) for method in ("gam", "svd")),
)
QUICK_CASES = (Case("gam", 3, 4), Case("svd", 3, 4), Case("knots-ties", 2, 4), Case("gam", 3, 4, cold=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny modules, in seconds")
    parser.add_argument("--folder", type=Path, help="where the generated adapters lie meanwhile (needs up to 9 GB)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the report to write")
    parser.add_argument("--only", help="cases to run, separated by commas: a method, or method:N:r")
    parser.add_argument("--layers", type=int, help="merge this many layers instead of all; the report says so")
    parser.add_argument("--without-peft", action="store_true", help="leave PEFT out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_child(json.loads(arguments.child))))
        return
    model, cases = (TINY, QUICK_CASES) if arguments.quick else (QWEN3_8B, FULL_CASES)
    if arguments.layers:
        model = replace(model, layers=arguments.layers)
    if arguments.only:
        wanted = set(arguments.only.split(","))
        cases = tuple(case for case in cases if wanted & {case.method, f"{case.method}:{case.count}:{case.rank}"})
    folder = Path(tempfile.mkdtemp(prefix="merge_speed.", dir=arguments.folder))
    measured: list[tuple[Case, dict[str, Any]]] = []
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        peft = [] if arguments.without_peft else measure_peft(arguments.quick)
        for case in cases:
            measured.append((case, measure(model, case, folder)))
            arguments.output.write_text(report(model, measured, peft), encoding="utf-8")
    finally:
        shutil.rmtree(folder)
    print(f"written to {arguments.output}")


def generate(folder: Path, model: Model, rank: int, index: int) -> Path:
    """An adapter as training leaves it: its A still near the common random start, its B's columns unequal."""
    path = folder / f"r{rank}-{index}"
    if path.exists():
        return path
    own, common = torch.Generator().manual_seed(1000 + index), torch.Generator().manual_seed(0)

    def updates() -> Iterator[tuple[str, LowRank]]:
        lengths = torch.logspace(0, -1, rank)
        for name, (d_out, d_in) in model.all_modules():
            a = torch.randn(rank, d_in, generator=common) + torch.randn(rank, d_in, generator=own)
            b = torch.randn(d_out, rank, generator=common) + torch.randn(d_out, rank, generator=own)
            yield name, LowRank(b * (lengths * 1e-3), a * d_in**-0.5)

    write_adapter(path, updates(), like=AdapterInfo(base_model="generated"), dtype=torch.bfloat16)
    return path


def measure(model: Model, case: Case, folder: Path) -> dict[str, Any]:
    """The floor and the merge of one case, each in a fresh process."""
    adapters = [str(generate(folder, model, case.rank, index)) for index in range(case.count)]
    output = folder / "merged"
    job = {"adapters": adapters, "output": str(output), "method": case.method, "cold": case.cold}
    try:
        merged = child({**job, "what": "merge"})
        written = sum(path.stat().st_size for path in output.iterdir())
        floor = child({**job, "what": "floor", "bytes": written})
    finally:
        shutil.rmtree(output, ignore_errors=True)
    print(
        f"{case.method} N={case.count} r={case.rank}{' cold' if case.cold else ''}: {merged['wall']:.2f} s, floor "
        f"{floor['wall']:.2f} s, {merged['peak'] / 2**30:.2f} GiB",
        flush=True,
    )
    return {**merged, "floor": floor["wall"]}


def child(job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
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


# --- PEFT


def measure_peft(quick: bool) -> list[dict[str, Any]]:
    """PEFT's ``svd`` and ``ties`` at N = 8, r = 16 (quick: 2 and 4), on one module of each sampled shape."""
    svd_shapes: list[Shape] = [(96, 160), (192, 160)] if quick else [(1024, 4096), (4096, 4096)]
    ties_shapes: list[Shape] = svd_shapes if quick else [*svd_shapes, (12288, 4096), (4096, 12288)]
    count, rank = (2, 4) if quick else (8, 16)
    results = []
    for combination, shapes in (("svd", svd_shapes), ("ties", ties_shapes)):
        for shape in shapes:
            arguments = {"combination": combination, "shape": shape, "count": count, "rank": rank}
            timed = child({"what": "peft", "arguments": arguments})
            print(f"PEFT {combination} {shape}: {timed['wall']:.3f} s", flush=True)
            results.append({**arguments, **timed})
    return results


def time_peft(combination: str, shape: Sequence[int], count: int, rank: int) -> dict[str, Any]:
    """One ``add_weighted_adapter`` over one linear layer, with PyTorch's own number of threads."""
    from peft import LoraConfig, get_peft_model  # heavy, and wanted in this process only

    torch.manual_seed(0)  # PEFT offers no generator of its own
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["linear"], init_lora_weights=False)
    model = get_peft_model(_OneLayer(shape), config, "a0")
    names = ["a0"]
    for index in range(1, count):
        names.append(f"a{index}")
        model.add_adapter(names[-1], config)
    options = {"svd_rank": rank} if combination == "svd" else {"density": 0.2}
    start, cpu = time.perf_counter(), time.process_time()
    model.add_weighted_adapter(names, [1.0] * count, "merged", combination_type=combination, **options)
    return {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}


class _OneLayer(nn.Module):
    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[1], shape[0], bias=False)


def scaled_to(model: Model, timed: Sequence[dict[str, Any]], clock: str) -> float:
    """Seconds (``clock``: wall or cpu) for all modules from the sampled shapes.

    A shape that was not timed counts by the cost of a dense SVD, d_max · d_min², from the largest that was.
    """
    known = {tuple(entry["shape"]): entry[clock] for entry in timed}
    largest = max(known, key=dense_cost)
    return sum(
        known.get(shape, known[largest] * dense_cost(shape) / dense_cost(largest)) for _, shape in model.all_modules()
    )


def dense_cost(shape: Sequence[int]) -> float:
    return float(max(shape) * min(shape) ** 2)


# --- the report


def report(model: Model, measured: Sequence[tuple[Case, dict[str, Any]]], peft: Sequence[dict[str, Any]]) -> str:
    modules = sum(1 for _ in model.all_modules())
    lines = [
        "# Merge speed",
        "",
        f"{modules} modules "
        + described(model)
        + ", generated adapters in bfloat16, result in bfloat16. Rerun: `python benchmarks/merge_speed.py`"
        + (" `--quick`." if model.modules is TINY.modules else " (about 15 minutes, 9 GB of disk)."),
        "",
        f"Machine: {cpu_name()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB; {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"PEFT {metadata.version('peft')}.",
        "",
        "Wall is that of `merge`, with reading, hashing of the inputs, the report, writing and syncing, without the "
        "import of PyTorch. The floor reads the same files and writes and syncs as many bytes as the result has. Peak "
        "memory is the process's largest resident set. Bytes are those of the system calls: the inputs are read twice, "
        "once to merge and once for their SHA-256. Inputs lie in the page cache unless marked cold.",
        "",
        "| method | N | r | wall s | CPU s | floor s | wall / floor | peak GiB | read GB | written GB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, got in measured:
        lines.append(
            f"| {case.method}{' (cold)' if case.cold else ''} | {case.count} | {case.rank} | {got['wall']:.2f} "
            f"| {got['cpu']:.2f} | {got['floor']:.2f} | {got['wall'] / got['floor']:.1f} | {got['peak'] / 2**30:.2f} "
            f"| {got['read'] / 1e9:.2f} | {got['written'] / 1e9:.2f} |"
        )
    if peft:
        lines += ["", *against_peft(model, measured, peft)]
    return "\n".join(lines) + "\n"


def described(model: Model) -> str:
    if model.modules is TINY.modules:
        return "(tiny: a test of the benchmark)"
    if model.layers == QWEN3_8B.layers:
        return "(all of Qwen3-8B's linear layers)"
    return f"({model.layers} of Qwen3-8B's {QWEN3_8B.layers} layers: `--layers {model.layers}`)"


def against_peft(
    model: Model, measured: Sequence[tuple[Case, dict[str, Any]]], peft: Sequence[dict[str, Any]]
) -> Iterator[str]:
    count, rank = peft[0]["count"], peft[0]["rank"]
    yield "## PEFT"
    yield ""
    yield (
        f"`add_weighted_adapter` at N = {count}, r = {rank}, factors in float32 in memory, nothing read or written, "
        f"{torch.get_num_threads()} threads, default options. One module of each shape is timed; the sum over all "
        "modules counts a shape that was not timed by d_max · d_min² (which leaves out that PEFT's `svd` also forms a "
        "square U of side d_out), so it is no measurement. PEFT's `ties` works on A and B separately, which is not the "
        "TIES of the updates."
    )
    yield ""
    yield "| combination | module | wall s | CPU s |"
    yield "|---|---|---|---|"
    totals = {}
    for combination in ("svd", "ties"):
        timed = [entry for entry in peft if entry["combination"] == combination]
        totals[combination] = {clock: scaled_to(model, timed, clock) for clock in ("wall", "cpu")}
        for entry in timed:
            shape = f"{entry['shape'][0]} x {entry['shape'][1]}"
            yield f"| {combination} | {shape} | {entry['wall']:.3f} | {entry['cpu']:.3f} |"
        whole = totals[combination]
        yield f"| {combination} | all modules, scaled | {whole['wall']:.0f} | {whole['cpu']:.0f} |"
    same = [(case, got) for case, got in measured if (case.count, case.rank) == (count, rank)]
    if same:
        yield ""
        yield "PEFT's `svd`, scaled, over the whole of each method's merge:"
        yield ""
        yield "| method | by wall | by CPU |"
        yield "|---|---|---|"
        for case, got in same:
            times = (f"{totals['svd'][clock] / got[clock]:.0f}" for clock in ("wall", "cpu"))
            yield f"| {case.method} | {' | '.join(times)} |"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    main()
