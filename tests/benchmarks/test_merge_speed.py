"""The speed benchmark runs; its numbers are for its own report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "merge_speed.py"


def test_quick_run_writes_its_table(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    command = [sys.executable, str(SCRIPT), "--quick", "--only", "gam", "--without-peft", "--folder", str(tmp_path)]
    subprocess.run([*command, "--output", str(report)], check=True, timeout=600)
    lines = report.read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| gam")]
    assert len(rows) == 2  # inputs in memory and on disk
    for row in rows:
        assert all(float(cell) >= 0 for cell in row[1:])
        assert float(row[3]) > 0
    assert list(tmp_path.iterdir()) == [report]
