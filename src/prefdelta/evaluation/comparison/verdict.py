"""The verdict of a comparison: one sentence that can be quoted."""

from __future__ import annotations

from collections.abc import Sequence

from prefdelta.evaluation.results import BenchmarkComparison, signed

_LEVEL = 0.05


def verdict(
    first: str, second: str, benchmarks: Sequence[BenchmarkComparison], overall: BenchmarkComparison | None
) -> str:
    """What a comparison of two runs shows, in one sentence that stands on its own."""
    if overall is None:
        return _of_one(first, second, benchmarks[0])
    tests = len(benchmarks)
    found = [row for row in benchmarks if row.p_holm < _LEVEL]
    better = [row for row in found if row.difference > 0]
    worse = [row for row in found if row.difference < 0]
    unclear = [row for row in benchmarks if row.p_holm >= _LEVEL]
    parts = [f"{second} is better on {_list(better)}"] if better else []
    parts += [f"{'worse' if better else f'{second} is worse'} on {_list(worse)}"] if worse else []
    parts += [f"no difference is shown on {_list(unclear)}"] if unclear else []
    return (
        f"Over {tests} benchmarks ({_counts(overall)}) {_relation(first, second, overall)} on average "
        f"({_numbers(overall)}); corrected for {tests} tests, {', '.join(parts)}."
    )


def p_text(value: float) -> str:
    """A p-value with as many digits as are read."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _of_one(first: str, second: str, row: BenchmarkComparison) -> str:
    scores = f"{row.second.score:.1f} against {row.first.score:.1f} %, {_counts(row)}"
    sentence = f"On {row.task} {_relation(first, second, row)} ({scores}; {_numbers(row)})"
    if row.p_holm >= _LEVEL:
        sentence += f"; a true difference of less than {row.detectable:.1f} points can easily go unnoticed here"
    return sentence + "."


def _relation(first: str, second: str, row: BenchmarkComparison) -> str:
    if row.p_holm >= _LEVEL:
        return f"no difference between {second} and {first} is shown"
    better = "better" if row.difference > 0 else "worse"
    return f"{second} is {abs(row.difference):.1f} points {better} than {first}"


def _numbers(row: BenchmarkComparison) -> str:
    test = "exact McNemar p" if row.test == "mcnemar" else "p"
    sign = "" if p_text(row.p).startswith("<") else "= "
    return f"{signed(row.difference)}, 95 % CI {signed(row.low)} to {signed(row.high)}, {test} {sign}{p_text(row.p)}"


def _list(rows: Sequence[BenchmarkComparison]) -> str:
    names = [f"{row.task} ({signed(row.difference)})" for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _counts(row: BenchmarkComparison) -> str:
    """How much the comparison rests on: items, the clusters they fall in, training seeds."""
    clusters = f" in {row.clusters:,} clusters" if row.clusters != row.items else ""
    seeds = f", {row.seeds} training seeds" if row.seeds > 1 else ""
    return f"{row.items:,} items{clusters}{seeds}"
