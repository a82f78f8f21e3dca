"""Spoil recipes at random and plan them: plans or sentences, no tracebacks, no hangs, nothing written or deleted.

    python benchmarks/fuzz_recipes.py [COUNT] [SEED]

Writes ``benchmarks/results/fuzz_recipes.md``. The short form is ``tests/recipe/test_recipe_fuzz.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from recipe_fuzz import OUTCOMES, attack  # noqa: E402  it lies with the tests
from row_fuzz import LIMIT  # noqa: E402

PROCESSES = 4


def share(seed: int, count: int) -> tuple[dict[str, Counter[str]], list[str], tuple[float, str]]:
    """One process's part of the attack."""
    with tempfile.TemporaryDirectory() as folder:
        return attack(Path(folder), seed, count)


def main(count: int, seed: int) -> int:
    """Attack, and write the counts; returns the number of failures."""
    parts = [(seed * PROCESSES + part, count // PROCESSES) for part in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        results = pool.starmap(share, parts)
    found: dict[str, Counter[str]] = {}
    for counts, _, _ in results:
        for name, counted in counts.items():
            found.setdefault(name, Counter()).update(counted)
    wrong = [said for _, problems, _ in results for said in problems]
    seconds, said = max(longest for _, _, longest in results)
    total = sum(found.values(), start=Counter[str]())
    lines = [
        "# Spoiled recipes",
        f"`python benchmarks/fuzz_recipes.py {count} {seed}` on {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}: {total.total():,} recipes made of the shipped ones with keys dropped, renamed, "
        "moved and repeated, values of other types, hostile names and paths, torn lines, stray bytes and YAML bombs. "
        "Each goes through all that `prefdelta run --dry-run` does. A refusal is one short line; hung is longer than "
        f"{LIMIT} seconds of the processor. What a process writes, deletes, starts or connects to is heard "
        "through Python's audit events.",
        "\n".join(
            [
                f"| made of | {' | '.join(OUTCOMES)} |",
                f"|---|{'---:|' * len(OUTCOMES)}",
                *(f"| {name} | {' | '.join(str(c[outcome]) for outcome in OUTCOMES)} |" for name, c in found.items()),
                f"| **all** | {' | '.join(str(total[outcome]) for outcome in OUTCOMES)} |",
            ]
        ),
        f"Slowest: {seconds:.1f} s of the processor ({said.rsplit('/', 1)[-1].replace('|', ' ')}). "
        f"Refusals that are no short line, and anything written, deleted, started or connected to: {len(wrong)}.",
        "The files that `real-outputs` names are not in the repository, so that it is refused at best.",
    ]
    (HERE / "results" / "fuzz_recipes.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join([*lines, *wrong[:40]]))
    return len(wrong)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    sys.exit(bool(main(*(given + [20_000, 1][len(given) :]))))
