"""Time the shared basis of TARA's variant B against the dense SVD that defines it.

``python benchmarks/tara_basis.py`` makes 8 random updates of rank 16 for a 4096 x 4096 weight, finds the basis both
ways in one process, checks that both give the same, and writes ``benchmarks/results/tara_basis.md``. The dense way
needs minutes and gigabytes. ``--quick`` does the same with small shapes, to see that it works; its numbers mean
nothing.

- *dense*: M = [ΔW₁ | … | ΔW_N] formed in float32 and decomposed by ``torch.linalg.svd(M, full_matrices=False)``, of
  which the first Σ rᵢ columns of U are kept: the definition in TARA's published code.
- *factored*: ``prefdelta.merging.learned.directions.shared_basis`` on the same factors, in float64, with all that a
  merge needs of it (U and UᵀB).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging.learned.directions import SharedBasis, shared_basis
from prefdelta.merging.registry import Options

RESULTS = Path(__file__).parent / "results" / "tara_basis.md"
GOAL = 500
REPEATS = 9


def updates(shape: tuple[int, int], count: int, rank: int) -> list[LowRank]:
    generator = torch.Generator().manual_seed(0)
    return [
        LowRank(torch.randn(shape[0], rank, generator=generator), torch.randn(rank, shape[1], generator=generator))
        for _ in range(count)
    ]


def near_copies(shape: tuple[int, int], count: int, rank: int) -> list[LowRank]:
    """Updates that differ from the first by one part in ten thousand, as after a shared start and little training."""
    first, *rest = updates(shape, count, rank)
    return [first, *(LowRank(first.B + 1e-4 * other.B, first.A + 1e-4 * other.A) for other in rest)]


class Seconds(NamedTuple):
    """How long something took on the clock, and of processor time."""

    wall: float
    cpu: float


class Clock:
    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = Seconds(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def timed_factored(deltas: Sequence[LowRank]) -> tuple[SharedBasis, list[Seconds]]:
    times = []
    for _ in range(REPEATS):
        with Clock() as clock:
            found = shared_basis(deltas, Options())
        times.append(clock.seconds)
    return found, times


def timed_dense(deltas: Sequence[LowRank]) -> tuple[torch.Tensor, Seconds, Seconds]:
    """The basis, and what it takes to form M and to decompose it."""
    with Clock() as forming:
        dense = torch.cat([delta.dense() for delta in deltas], dim=1)
    with Clock() as decomposing:
        u, _, _ = torch.linalg.svd(dense, full_matrices=False)
    return u[:, : sum(delta.rank for delta in deltas)].clone(), forming.seconds, decomposing.seconds


def median(times: Sequence[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(column) for column in zip(*times, strict=True)))


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest sine of an angle between two subspaces, given by orthonormal columns."""
    one, other = one.double(), other.double()
    return float(torch.linalg.matrix_norm(one - other @ (other.T @ one), 2))


def machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, PyTorch {torch.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    size, count, rank = (256, 4, 4) if arguments.quick else (4096, 8, 16)
    shapes = [(size, size), (size // 4, size), (3 * size, size), (size, 3 * size)]

    torch.set_num_threads(1)  # processor time then does not count threads that wait for one another
    load = os.getloadavg()[0]
    deltas = updates(shapes[0], count, rank)
    shared_basis(deltas, Options())  # the first call loads libraries
    found, before = timed_factored(deltas)
    basis, forming, decomposing = timed_dense(deltas)
    _, after = timed_factored(deltas)
    usual, slowest = median(before + after), max(before + after, key=lambda seconds: seconds.cpu)
    dense = Seconds(forming.wall + decomposing.wall, forming.cpu + decomposing.cpu)
    ratio = dense.cpu / usual.cpu
    _, copies = timed_factored(near_copies(shapes[0], count, rank))
    alike = median(copies)
    rows = [
        ("dense: forming M", forming),
        ("dense: SVD", decomposing),
        (f"factored, median of {len(before + after)}", usual),
        ("factored, the slowest", slowest),
        (f"factored, adapters that are near-copies of one another, median of {len(copies)}", alike),
    ]
    for shape in shapes[1:]:
        _, taken = timed_factored(updates(shape, count, rank))
        rows.append((f"factored, a {shape[0]} x {shape[1]} weight, median of {len(taken)}", median(taken)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    reached = "reached" if ratio >= GOAL else "not reached"
    lines = [
        "# The shared basis of TARA-B",
        "",
        f"{count} random updates of rank {rank} for a {size} x {size} weight; the basis has {found.shape[1]} "
        "directions.",
        "Rerun: `python benchmarks/tara_basis.py`.",
        "",
        f"Machine: {machine()}.",
        f"Load averages at the start and the end: {load:.1f} and {os.getloadavg()[0]:.1f}. "
        "On a shared machine the clock",
        "also counts the time in which others work, so ratios are of processor time.",
        "",
        "Peer: the definition in TARA's published code, `torch.linalg.svd(M, full_matrices=False)` of the dense",
        f"{size} x {count * size} float32 matrix M = [ΔW₁ … ΔW_N]. Both ways ran in one process "
        "on one thread, the factored",
        "one before and after the dense one.",
        "",
        "| way | CPU seconds | wall seconds |",
        "|---|---|---|",
        *(f"| {name} | {seconds.cpu:.4f} | {seconds.wall:.4f} |" for name, seconds in rows),
        "",
        f"**Factored is {ratio:,.0f} times faster** (processor time of all of dense over the factored median;",
        f"{dense.cpu / slowest.cpu:,.0f} times over its slowest run; "
        f"{dense.wall / usual.wall:,.0f} times by the clock).",
        f"Goal: at least {GOAL}, {reached}.",
        f"Near-copies have ill-conditioned factors and take Householder reflections: "
        f"{dense.cpu / alike.cpu:,.0f} times.",
        "",
        f"Largest sine of an angle between the bases: {distance(found.left, basis):.1e}; the dense one is float32's.",
        f"Peak memory of the process, which the dense way decides: {peak:.1f} GiB.",
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
