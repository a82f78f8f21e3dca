"""A comparison as a sentence to quote, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from prefdelta.comparing.compare import BenchmarkComparison, Comparison

_LEVEL = 0.05


def verdict(comparison: Comparison) -> str:
    """What the comparison shows, in one sentence that stands on its own."""
    if comparison.overall is None:
        return _one(comparison, comparison.benchmarks[0])
    overall = comparison.overall
    tests = len(comparison.benchmarks)
    found = [row for row in comparison.benchmarks if row.p_holm < _LEVEL]
    better = [row for row in found if row.difference > 0]
    worse = [row for row in found if row.difference < 0]
    open_ = [row for row in comparison.benchmarks if row.p_holm >= _LEVEL]
    parts = [f"{comparison.second} is better on {_list(better)}"] if better else []
    parts += [f"{'worse' if better else f'{comparison.second} is worse'} on {_list(worse)}"] if worse else []
    parts += [f"no difference is shown on {_list(open_)}"] if open_ else []
    return (
        f"Over {tests} benchmarks ({overall.items:,} items{_seeds(overall)}) {_relation(comparison, overall)} "
        f"on average ({_numbers(overall)}); corrected for {tests} tests, {', '.join(parts)}."
    )


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as its JSON file holds it, with the sentence; ``docs/comparing.md`` explains the keys."""
    return {"schema": 1, "verdict": verdict(comparison), **asdict(comparison)}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The table, what it can resolve, and the verdict."""
    console.print(f"A: {comparison.first}\nB: {comparison.second}", highlight=False, soft_wrap=True)
    table = Table("benchmark", "items", "A", "B", "B − A", "95 % interval", "p", "detectable")
    for row in [*comparison.benchmarks, *([comparison.overall] if comparison.overall else [])]:
        table.add_row(
            row.task or "mean",
            f"{row.items:,}" + (f" in {row.clusters:,}" if row.clusters != row.items else ""),
            f"{row.first.score:.1f}",
            f"{row.second.score:.1f}",
            signed(row.difference),
            f"{signed(row.low)} to {signed(row.high)}",
            _p(row.p_holm) + ("*" if row.test == "mcnemar" else ""),
            f"{row.detectable:.1f}",
        )
    console.print(table)
    health = Table("benchmark", "unparsed %", "truncated %", "tokens")
    for row in comparison.benchmarks:
        a, b = row.first, row.second
        health.add_row(
            row.task,
            f"{a.unparsed:.1f} → {b.unparsed:.1f}",
            f"{a.truncated:.1f} → {b.truncated:.1f}",
            f"{a.tokens:.0f} → {b.tokens:.0f}",
        )
    console.print(health)
    console.print(
        "A and B in percent, differences in points. p is corrected for the number of benchmarks (Holm); * exact "
        "McNemar test, else the level at which the interval touches 0. detectable: the smallest true difference that "
        "would be found four times in five.\n",
        highlight=False,
        soft_wrap=True,
    )
    console.print(verdict(comparison), highlight=False, soft_wrap=True)


def signed(value: float) -> str:
    """A difference with its sign and one decimal, with a true minus."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else ("+" if value > 0 else "−") + text


def _one(comparison: Comparison, row: BenchmarkComparison) -> str:
    scores = f"{row.second.score:.1f} against {row.first.score:.1f} %, {row.items:,} items{_seeds(row)}"
    sentence = f"On {row.task} {_relation(comparison, row)} ({scores}; {_numbers(row)})"
    if row.p_holm >= _LEVEL:
        sentence += f"; a true difference of less than {row.detectable:.1f} points can easily go unnoticed here"
    return sentence + "."


def _relation(comparison: Comparison, row: BenchmarkComparison) -> str:
    one, other = comparison.second, comparison.first
    if row.p_holm >= _LEVEL:
        return f"no difference between {one} and {other} is shown"
    return f"{one} is {abs(row.difference):.1f} points {'better' if row.difference > 0 else 'worse'} than {other}"


def _numbers(row: BenchmarkComparison) -> str:
    test = "exact McNemar p" if row.test == "mcnemar" else "p"
    sign = "" if _p(row.p).startswith("<") else "= "
    return f"{signed(row.difference)}, 95 % CI {signed(row.low)} to {signed(row.high)}, {test} {sign}{_p(row.p)}"


def _list(rows: Sequence[BenchmarkComparison]) -> str:
    names = [f"{row.task} ({signed(row.difference)})" for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _seeds(row: BenchmarkComparison) -> str:
    return f", {row.seeds} training seeds" if row.seeds > 1 else ""


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
