"""The report that ``merge_speed.py`` writes."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from merge_speed_cases import COUNTS, QWEN3_8B, SIDES, TINY, TWO_LAYERS, Case, Measured, square
from merge_speed_peers import scaled_to

_COLUMNS = "| method | N | r | wall s | CPU s | floor s | wall / floor | peak GiB | read GB | written GB |"


def report(
    measured: Sequence[Measured],
    peft: Sequence[dict[str, Any]],
    mergekit: dict[str, Any] | None,
    load: Sequence[tuple[float, float, float]],
    note: str,
) -> str:
    """Everything measured, as Markdown."""
    quick = any(case.model is TINY for case, _ in measured)
    lines = [
        "# Merge speed",
        "",
        "Generated adapters in bfloat16, result in bfloat16, with the shapes of Qwen3-8B's linear layers where nothing "
        "else is said. "
        + (
            "A quick run, to see that the benchmark works: its numbers mean nothing."
            if quick
            else "Rerun: `python benchmarks/merge_speed.py` (about 20 minutes, 9 GB of disk)."
        ),
        "",
        f"Machine: {cpu_name()}, {os.cpu_count()} processors, {memory_gib():.0f} GiB; {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"PEFT {metadata.version('peft')}.",
        "",
        f"Load average (1 minute) before the first merge {load[0][0]:.1f}, after the last {load[-1][0]:.1f}, in "
        f"between up to {max(entry[0] for entry in load):.1f}; 2 to 3 of it is its own. {note}".rstrip(),
        "",
        "Wall is that of `merge`, with reading, hashing of the inputs, the report, writing and syncing, without the "
        "import of PyTorch. The floor reads the same files and writes and syncs as many bytes as the result has, in "
        "the same minute. Peak memory is the process's largest resident set, of which Python with PyTorch is 0.25 GiB. "
        "Bytes are those of the system calls: the inputs are read twice, once to merge and once for their hash. Inputs "
        "lie in the page cache unless marked cold. Where a case ran three times, the medians are given.",
    ]
    for title, model in (("All 252 modules", QWEN3_8B), ("14 modules (2 layers)", TWO_LAYERS), ("Tiny", TINY)):
        rows = [_row(case, got) for case, got in measured if case.model is model]
        if rows:
            lines += ["", f"## {title}", "", _COLUMNS, "|" + "---|" * 10, *rows]
    lines += _scaling(measured)
    if peft:
        lines += ["", *_against_peft(measured, peft)]
    if mergekit:
        lines += ["", *_against_mergekit(mergekit)]
    if not quick and peft:
        lines += ["", *_goals(measured, peft)]
    return "\n".join(lines) + "\n"


def _row(case: Case, got: dict[str, Any]) -> str:
    return (
        f"| {case.method}{' (cold)' if case.cold else ''} | {case.count} | {case.rank} | {got['wall']:.2f} "
        f"| {got['cpu']:.2f} | {got['floor']:.2f} | {got['wall'] / got['floor']:.1f} | {got['peak'] / 2**30:.2f} "
        f"| {got['read'] / 1e9:.2f} | {got['written'] / 1e9:.2f} |"
    )


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The p of the least-squares fit of log t = p log x + c; NaN with fewer than two points."""
    if len(points) < 2:
        return math.nan
    logs = [(math.log(x), math.log(t)) for x, t in points]
    mean_x, mean_t = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - mean_x) * (t - mean_t) for x, t in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def _by_count(measured: Sequence[Measured], rank: int) -> list[tuple[float, float]]:
    return [
        (case.count, got["cpu"])
        for case, got in measured
        if case.model is TWO_LAYERS and case.rank == rank and case.method == "gam"
    ]


def _many(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points at which GAM does no more than it must: with up to four adapters it also compares all pairs."""
    return [(count, time) for count, time in points if count >= 8]


def _by_side(measured: Sequence[Measured], method: str) -> list[tuple[float, float]]:
    sides = {square(side).name: side for side in SIDES}
    return [
        (sides[case.model.name], got["cpu"])
        for case, got in measured
        if case.model.name in sides and case.method == method
    ]


def _scaling(measured: Sequence[Measured]) -> Iterator[str]:
    counts = {rank: points for rank in (16, 64) if len(points := _by_count(measured, rank)) > 1}
    methods = sorted({case.method for case, _ in measured})
    sides = {method: points for method in methods if len(points := _by_side(measured, method)) > 1}
    if not counts and not sides:
        return
    yield from ("", "## How cost grows", "")
    yield (
        "CPU seconds, and the exponent p of the fit t ∝ xᵖ. For N it is over N = 8, 16, 32: with up to four adapters "
        "the report compares the result with their average, which takes the products of all pairs; and N adapters take "
        "2 N - 1 products, so that doubling a small N more than doubles the work."
    )
    if counts:
        head = " | ".join(f"N = {count}" if count == COUNTS[0] else str(count) for count in COUNTS)
        yield from ("", f"| gam, 14 modules | {head} | p |", "|" + "---|" * (len(COUNTS) + 2))
        for rank, points in counts.items():
            times = " | ".join(f"{t:.2f}" for _, t in points)
            yield f"| r = {rank} | {times} | {exponent(_many(points)):.2f} |"
    if sides:
        head = " | ".join(f"d = {side}" if side == SIDES[0] else str(side) for side in SIDES)
        yield from ("", f"| 14 modules d x d, N = 4, r = 16 | {head} | p |", "|" + "---|" * (len(SIDES) + 2))
        for method, points in sides.items():
            times = " | ".join(f"{t:.2f}" for _, t in points)
            yield f"| {method} | {times} | {exponent(points):.2f} |"


def _ratios(measured: Sequence[Measured], peft: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """PEFT's svd over each method's whole merge of the same N and r, by wall and by CPU."""
    svd = [entry for entry in peft if entry["combination"] == "svd"]
    return {
        case.method: {clock: scaled_to(case.model, svd, clock) / got[clock] for clock in ("wall", "cpu")}
        for case, got in measured
        if (case.count, case.rank) == (svd[0]["count"], svd[0]["rank"]) and case.model in (QWEN3_8B, TINY)
    }


def _against_peft(measured: Sequence[Measured], peft: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "## PEFT"
    yield ""
    yield (
        f"`add_weighted_adapter` at N = {peft[0]['count']}, r = {peft[0]['rank']}, factors in float32 in memory, "
        f"nothing read or written, {torch.get_num_threads()} threads, default options. One module of each shape is "
        "timed; the sum over all modules counts a shape that was not timed by d_max · d_min² (which leaves out that "
        "PEFT's `svd` also forms a square U of side d_out), so it is no measurement. PEFT's `ties` works on A and B "
        "separately, which is not the TIES of the updates."
    )
    yield from ("", "| combination | module | wall s | CPU s |", "|---|---|---|---|")
    for combination in ("svd", "ties"):
        timed = [entry for entry in peft if entry["combination"] == combination]
        for entry in timed:
            shape = f"{entry['shape'][0]} x {entry['shape'][1]}"
            yield f"| {combination} | {shape} | {entry['wall']:.3f} | {entry['cpu']:.3f} |"
        whole = {clock: scaled_to(QWEN3_8B, timed, clock) for clock in ("wall", "cpu")}
        yield f"| {combination} | 252 modules, scaled | {whole['wall']:.0f} | {whole['cpu']:.0f} |"
    ratios = _ratios(measured, peft)
    if ratios:
        yield from (
            "",
            "PEFT's `svd`, scaled, over the whole of each method's merge, all 252 modules, files and all:",
            "",
        )
        yield from ("| method | by wall | by CPU |", "|---|---|---|")
        for method, times in ratios.items():
            yield f"| {method} | {times['wall']:.0f} | {times['cpu']:.0f} |"


def _against_mergekit(found: dict[str, Any]) -> Iterator[str]:
    yield "## mergekit"
    yield ""
    yield (
        "mergekit merges whole checkpoints. Given adapters alone it stops with: "
        f"`{found['alone'].replace('`', '')}` Given `base+adapter` it bakes every adapter into a copy of the base on "
        "disk and merges the copies into a whole checkpoint. So it was given one decoder layer of Qwen3-8B's shapes "
        f"with a vocabulary of 1024 (7 adapted modules), N = {found['count']} adapters, r = {found['rank']}; wall "
        "seconds are those of its command, imports included (about 10 s). Ours are of `merge` on the same adapters, "
        "without imports; its `ties` leaves a full-rank checkpoint, ours the best adapter of rank N · r."
    )
    yield from ("", "| mergekit | wall s | prefdelta | wall s |", "|---|---|---|---|")
    for method in ("linear", "ties"):
        entry = found[method]
        theirs = f"{entry['wall']:.1f}" if not entry["error"] else f"failed: {entry['error']}"
        name = "task_arithmetic" if method == "linear" else method
        yield f"| {name} | {theirs} | {entry['ours']} | {entry['our wall']:.2f} |"


def _goals(measured: Sequence[Measured], peft: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Every goal with what was measured and whether that reaches it."""
    whole = {(case.method, case.count, case.rank, case.cold): got for case, got in measured if case.model is QWEN3_8B}
    yield "## Against the goals"
    yield ""
    yield from ("| goal | measured | |", "|---|---|---|")
    for cold in (False, True):
        if (got := whole.get(("gam", 4, 64, cold))) is not None:
            times = got["wall"] / got["floor"]
            where = "inputs on disk" if cold else "inputs in the page cache"
            yield f"| gam, N = 4, r = 64, within 5 times the floor, {where} | {times:.1f} | {_verdict(times <= 5)} |"
    ratios = _ratios(measured, peft)
    for method in ("svd", "tsv-m", "core-ties", "knots-ties"):
        if method in ratios:
            times = ratios[method]["wall"]
            goal = f"{method} at least 500 times as fast as PEFT's `svd`, N = 8, r = 16"
            yield f"| {goal} | {times:.0f} | {_verdict(times >= 500)} |"
    peak = max(got["peak"] for _, got in measured) / 2**30
    yield f"| peak memory below 1.5 GiB at any N | up to {peak:.2f} GiB | {_verdict(peak < 1.5)} |"
    if (got := whole.get(("svd", 16, 64, False))) is not None:
        yield f"| svd, N = 16, r = 64, below 10 minutes | {got['wall']:.0f} s | {_verdict(got['wall'] < 600)} |"
    for rank in (16, 64):
        if len(points := _by_count(measured, rank)) > 1:
            p = exponent(_many(points))
            yield f"| cost of gam linear in N, r = {rank} | exponent {p:.2f} from N = 8 on | {_verdict(p <= 1.05)} |"
    steepest = {method: exponent(points) for method in ratios if len(points := _by_side(measured, method)) > 1}
    if steepest:
        worst = max(steepest, key=lambda method: steepest[method])
        found = f"exponent at most {steepest[worst]:.2f} ({worst})"
        yield f"| cost linear in d | {found} | {_verdict(steepest[worst] <= 1.05)} |"


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
