"""Two runs on the same items: which is better, by how much, and whether that could be chance."""

from prefdelta.evaluation.comparison.compare import compare
from prefdelta.evaluation.comparison.runs import Run, read_run, read_runs

__all__ = ["Run", "compare", "read_run", "read_runs"]
