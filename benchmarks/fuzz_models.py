"""Spoil model folders at random and load them: models or sentences, no tracebacks, no hangs, nothing written or run.

    python benchmarks/fuzz_models.py [COUNT] [SEED]

Writes ``benchmarks/results/fuzz_models.md``. The short form is ``tests/core/test_model_fuzz.py``.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from model_fuzz import OUTCOMES, attack  # noqa: E402  it lies with the tests
from row_fuzz import LIMIT  # noqa: E402


def main(count: int, seed: int) -> int:
    """Attack, and write the counts; returns the number of failures."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found, wrong, (seconds, _) = attack(Path(folder), seed, count)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("transformers", "tokenizers", "safetensors"))
    lines = [
        "# Spoiled model folders",
        f"`python benchmarks/fuzz_models.py {count} {seed}` on {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {versions}: {count:,} folders made of a good one, in one file and in shards, "
        "with keys of the configuration and the tokenizer changed or dropped, weights' headers and indexes that say "
        "something else, torn, empty and foreign files, folders and loops in their place, hostile chat templates, code "
        "named by `auto_map` and pickles. Of each, the tokenizer, a prompt and the weights are asked for, as every "
        f"command does. A refusal is one short line that names the folder; hung is longer than {LIMIT} seconds of the "
        "processor. What the process writes, deletes, starts or connects to is heard through Python's audit events; "
        "doubtful templates are tried in a process of their own, which is ours.",
        "\n".join(
            [
                f"| first spoiled in | {' | '.join(OUTCOMES)} |",
                f"|---|{'---:|' * len(OUTCOMES)}",
                *(f"| {name} | {' | '.join(str(c[outcome]) for outcome in OUTCOMES)} |" for name, c in found.items()),
                f"| **all** | {' | '.join(str(sum(c[outcome] for c in found.values())) for outcome in OUTCOMES)} |",
            ]
        ),
        f"Slowest: {seconds:.1f} s of the processor. Refusals that are no short line, and anything written, deleted, "
        f"started or connected to: {len(wrong)}.",
    ]
    (HERE / "results" / "fuzz_models.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join([*lines, *wrong[:40]]))
    return len(wrong)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    sys.exit(bool(main(*(given + [20_000, 1][len(given) :]))))
