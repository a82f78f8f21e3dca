"""The training benchmark runs; its numbers are for its own report."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_speed.py"


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
def test_quick_run_writes_its_table(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    subprocess.run([sys.executable, str(SCRIPT), "--quick", "--output", str(report)], check=True, timeout=600)
    lines = report.read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith(("| prefdelta", "| TRL"))]
    assert [row[0].strip() for row in rows] == ["prefdelta cold", "prefdelta warm", "TRL"]
    for row in rows:
        assert float(row[1]) > 0
        assert float(row[4]) > 0
    assert sum(line.startswith(("| throughput", "| peak memory")) for line in lines) == 3
