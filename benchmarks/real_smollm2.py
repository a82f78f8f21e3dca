"""Tables of a finished run of ``prefdelta real``: what each delta and merge prefers, and what else the merge changed.

    prefdelta real -o runs/real --answers …
    python benchmarks/real_smollm2.py runs/real > benchmarks/results/real_smollm2_tables.md

Everything is read from the run's ``results.json`` and ``journal.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import defaultdict
from pathlib import Path

from prefdelta.evaluation.results import AggregationResults, Domain, Interval
from prefdelta.pairs.card import table
from prefdelta.report.results import read_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    arguments = parser.parse_args()
    results = read_results(arguments.run / "results.json")
    assert isinstance(results, AggregationResults)
    print("\n\n".join([*_domains(results), _times(arguments.run), _machine()]))


def _domains(results: AggregationResults) -> list[str]:
    return [part for domain in results.domains.values() for part in (_preferences(domain), _watched(domain))]


def _preferences(domain: Domain) -> str:
    rows = []
    for name, variant in domain.methods.items():
        cells = [f"{name}{' (chosen λ)' if variant.tuned else ''}"]
        for task in domain.tasks:
            measured = variant.tasks[task]
            margin = (measured.measures or {})["margin"]
            likelier = (measured.measures or {})["likelier"]
            accuracy = f"{measured.score:.0f} {_range(measured.vs_student, measured.score)}"
            cells += [accuracy, f"{margin.mean:+.2f} [{margin.low:+.2f}, {margin.high:+.2f}]", f"{likelier.mean:.2f}"]
        rows.append(cells)
    head = ["", *(f"{task}: {what}" for task in domain.tasks for what in ("%", "margin", "likelier"))]
    return table(head, rows)


def _range(change: Interval | None, score: float) -> str:
    """The interval of a score, from that of its difference to the student, who scores the same on every pair."""
    if change is None:
        return ""
    return f"[{score - change.mean + change.low:.0f}, {score - change.mean + change.high:.0f}]"


def _watched(domain: Domain) -> str:
    rows = [
        [
            f"{task}: {measure}",
            f"{found.student:.1f}",
            f"{found.merge:.1f}",
            found.change.text,
            *(part.text for part in found.caused_by.values()),
        ]
        for task, measures in (domain.watch or {}).items()
        for measure, found in measures.items()
    ]
    deltas = list(next(iter(next(iter((domain.watch or {}).values())).values())).caused_by) if rows else []
    return table(["", "student", "merge", "change", *(f"by {delta}" for delta in deltas)], rows) if rows else ""


def _times(run: Path) -> str:
    spent: dict[str, float] = defaultdict(float)
    for line in (run / "journal.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "built":
            spent[event["stage"]] += event["seconds"]
    rows = [(stage, f"{seconds:.0f}") for stage, seconds in spent.items() if seconds >= 1]
    return table(("stage", "seconds"), [*rows, ("all", f"{sum(spent.values()):.0f}")])


def _machine() -> str:
    cpu = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return f"Machine: {cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}."


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


if __name__ == "__main__":
    main()
