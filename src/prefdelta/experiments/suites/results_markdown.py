"""A suite's results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefdelta.evaluation.results import Interval, SuiteMethod, SuiteResults


def results_markdown(results: SuiteResults, seconds: Mapping[str, Sequence[float]]) -> str:
    """The table of normalised accuracies, what else was measured, and how the methods compare.

    Args:
        results: what :func:`prefdelta.experiments.suites.publish.summarise_suite` gives.
        seconds: method -> how long its merges took.
    """
    names = results.tasks
    methods = results.methods
    joint = all(row.joint for row in methods.values())
    lines = [f"# {results.recipe}", ""]
    lines += [
        f"Normalised accuracy (100 · merge / own adapter, on test items), {len(results.seeds)} seeds, with 95 % "
        "intervals over items and seeds. Settings were chosen on validation items, "
        f"{results.budget} per method.",
        "",
        *_table(
            ["method", "mean", *names],
            [
                [method, _interval(row.mean), *(_margin(row.tasks[name]) for name in names)]
                for method, row in methods.items()
            ],
        ),
        "",
        "Own adapters' accuracy, %: "
        + ", ".join(f"{name} {results.single[name]:.1f} (chance {100 / results.classes[name]:.1f})" for name in names)
        + ".",
        "",
    ]
    header = ["method"]
    header += ["joint Hits@1", "Hits@5"] if joint else []
    header += [f"unseen ({', '.join(results.unseen_tasks)})"] if results.unseen_tasks else []
    header += ["coefficients", "seconds per merge", "chosen setting"]
    lines += _table(header, [_more(method, row, results, seconds, joint) for method, row in methods.items()])
    if any(row.edge for row in methods.values()):
        lines += ["", "\\* The best λ lies at the edge of what was tried; a better one may lie beyond."]
    lines += ["", "Differences in mean normalised accuracy, paired by item and seed:", ""]
    lines += _table(
        ["pair", "difference"],
        [[pair.replace(" - ", " − "), _interval(gap)] for pair, gap in results.differences.items()],
    )
    if results.preference is not None:
        sweep = results.preference
        lines += ["", f"Preference ρ for {sweep.task}, {sweep.method}, first seed:", ""]
        lines += _table(
            ["ρ", sweep.task, "mean of the others"],
            [[f"{point.weight:g}", f"{point.task:.1f}", f"{point.others:.1f}"] for point in sweep.points],
        )
    return "\n".join(lines) + "\n"


def _more(
    method: str, row: SuiteMethod, results: SuiteResults, seconds: Mapping[str, Sequence[float]], joint: bool
) -> list[str]:
    cells = [method]
    cells += [_interval(row.joint["1"]), f"{row.joint['5'].mean:.1f}"] if joint and row.joint else []
    cells += [_interval(row.unseen.mean)] if row.unseen else []
    times = seconds.get(method)
    return [
        *cells,
        f"{row.coefficients:,}" if row.coefficients else "-",
        f"{sum(times) / len(times):.1f}" if times else "-",
        f"{row.setting or '-'}{' *' if row.edge else ''}",
    ]


def _interval(value: Interval) -> str:
    return f"{value.mean:.1f} [{value.low:.1f}, {value.high:.1f}]"


def _margin(value: Interval) -> str:
    return f"{value.mean:.1f} ± {(value.high - value.low) / 2:.1f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
