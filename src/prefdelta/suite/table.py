"""A suite's results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def results_table(results: Mapping[str, Any], seconds: Mapping[str, Sequence[float]]) -> str:
    """The table of normalised accuracies, what else was measured, and how the methods compare.

    Args:
        results: what :func:`prefdelta.suite.publish.summarise_suite` gives.
        seconds: method -> how long its merges took.
    """
    names = results["tasks"]
    methods = results["methods"]
    joint = all("joint" in row for row in methods.values())
    lines = [f"# {results['suite']}", ""]
    lines += [
        f"Normalised accuracy (100 · merge / own adapter, on test items), {len(results['seeds'])} seeds, with 95 % "
        "intervals over items and seeds. Settings were chosen on validation items, "
        f"{results['budget']} per method.",
        "",
        *_table(
            ["method", "mean", *names],
            [
                [method, _interval(row["mean"]), *(_margin(row["tasks"][name]) for name in names)]
                for method, row in methods.items()
            ],
        ),
        "",
        "Own adapters' accuracy, %: "
        + ", ".join(
            f"{name} {results['single'][name]:.1f} (chance {100 / results['classes'][name]:.1f})" for name in names
        )
        + ".",
        "",
    ]
    header = ["method"]
    header += ["joint Hits@1", "Hits@5"] if joint else []
    header += [f"unseen ({', '.join(results['unseen_tasks'])})"] if results["unseen_tasks"] else []
    header += ["coefficients", "seconds per merge", "chosen setting"]
    lines += _table(header, [_more(method, row, results, seconds, joint) for method, row in methods.items()])
    lines += ["", "Differences in mean normalised accuracy, paired by item and seed:", ""]
    lines += _table(
        ["pair", "difference"],
        [[pair.replace(" - ", " − "), _interval(gap)] for pair, gap in results["differences"].items()],
    )
    if results["preference"]:
        sweep = results["preference"]
        lines += ["", f"Preference ρ for {sweep['task']}, {sweep['method']}, first seed:", ""]
        lines += _table(
            ["ρ", sweep["task"], "mean of the others"],
            [[f"{point['weight']:g}", f"{point['task']:.1f}", f"{point['others']:.1f}"] for point in sweep["points"]],
        )
    return "\n".join(lines) + "\n"


def _more(
    method: str, row: Mapping[str, Any], results: Mapping[str, Any], seconds: Mapping[str, Sequence[float]], joint: bool
) -> list[str]:
    cells = [method]
    cells += [_interval(row["joint"]["1"]), f"{row['joint']['5']['mean']:.1f}"] if joint else []
    cells += [_interval(row["unseen"]["mean"])] if results["unseen_tasks"] else []
    times = seconds.get(method)
    return [
        *cells,
        f"{row['coefficients']:,}" if row.get("coefficients") else "-",
        f"{sum(times) / len(times):.1f}" if times else "-",
        row.get("setting", "-"),
    ]


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.1f} [{value['low']:.1f}, {value['high']:.1f}]"


def _margin(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.1f} ± {(value['high'] - value['low']) / 2:.1f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
