"""Spoil files of rows at random and read them with every reader: sentences, no tracebacks, no hangs.

    python benchmarks/fuzz_rows.py [COUNT] [SEED]

Writes ``benchmarks/results/fuzz_rows.md``. The short form is ``tests/core/test_row_fuzz.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from row_fuzz import LIMIT, attack  # noqa: E402  it lies with the tests


def main(count: int, seed: int) -> int:
    """Attack, and write the counts; returns the number of failures."""
    with tempfile.TemporaryDirectory() as folder:
        found, wrong = attack(Path(folder), seed, count)
    outcomes = ("read", "refused", "traceback", "hung")
    lines = [
        "# Spoiled files of rows",
        f"`python benchmarks/fuzz_rows.py {count} {seed}`: {count} files made of good rows with missing, extra and "
        "foreign values, numbers that are none, duplicate keys, deep nesting, torn lines, stray bytes and byte-order "
        f"marks. A refusal is one sentence that names the file; hung is longer than {LIMIT} seconds "
        "of the processor.",
        "\n".join(
            [
                f"| reader | {' | '.join(outcomes)} |",
                f"|---|{'---:|' * len(outcomes)}",
                *(
                    f"| {name} | {' | '.join(str(counts[outcome]) for outcome in outcomes)} |"
                    for name, counts in found.items()
                ),
                f"| **all** | {' | '.join(str(sum(c[outcome] for c in found.values())) for outcome in outcomes)} |",
            ]
        ),
        f"Sentences that do not name the file, or files written beside the output: {len(wrong)}.",
    ]
    (HERE / "results" / "fuzz_rows.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join([*lines, *wrong[:20]]))
    return len(wrong)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    sys.exit(bool(main(*(given + [20_000, 1][len(given) :]))))
