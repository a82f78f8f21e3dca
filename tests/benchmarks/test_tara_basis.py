"""The benchmark of TARA-B's basis runs, and both of its ways agree; its numbers are for its own report."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tara_basis.py"


def test_quick_run_writes_its_report(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    subprocess.run([sys.executable, str(SCRIPT), "--quick", "--output", str(report)], check=True, timeout=600)
    text = report.read_text(encoding="utf-8")
    (sine,) = re.findall(r"angle between the bases: (\S+);", text)
    assert float(sine) < 1e-4
    assert "has 16 directions" in text
