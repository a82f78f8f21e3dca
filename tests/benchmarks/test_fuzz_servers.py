"""The fuzzer of servers' replies, in short: no traceback, no hang, no key told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_servers.py"


def test_broken_and_hostile_replies_cost_nothing_but_themselves() -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--inputs", "240", "--seed", "7"], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "240 replies, 0 failures" in run.stdout
    assert "| search: passages |" in run.stdout
    assert "| chat: completion |" in run.stdout
