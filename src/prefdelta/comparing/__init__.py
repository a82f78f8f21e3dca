"""Two runs on the same items: which is better, by how much, and whether that could be chance."""

from prefdelta.comparing.compare import BenchmarkComparison, Comparison, compare
from prefdelta.comparing.runs import Run, read_run, read_runs
from prefdelta.comparing.words import as_json, print_comparison, verdict

__all__ = [
    "BenchmarkComparison",
    "Comparison",
    "Run",
    "as_json",
    "compare",
    "print_comparison",
    "read_run",
    "read_runs",
    "verdict",
]
