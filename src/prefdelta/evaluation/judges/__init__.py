"""Judged benchmarks: AlpacaEval 2, Arena-Hard, MT-Bench, and any two models' answers against each other."""

from prefdelta.evaluation.judges.lengthcontrol import length_controlled

__all__ = ["length_controlled"]
