"""Choose the scale of merges by labels, by self-agreement without labels and by pairs, and score each on other items.

``prefdelta demo -o runs/demo`` trains the deltas; ``python benchmarks/label_free_scale.py runs/demo`` then writes
``benchmarks/results/label_free_scale.md``. Every method is tried at the same six norms: λ is a multiple of the λ₀ at
which the merge is as long as the mean single delta. ``--quick`` asks a few questions only, to see that it works; its
numbers mean nothing, and it writes nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from prefdelta import micro
from prefdelta.adapters import Adapter
from prefdelta.agent import Environment
from prefdelta.core.models import load
from prefdelta.core.records import Pair, read_rows
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.statistics import Difference, paired_difference
from prefdelta.merging.scale import Scale
from prefdelta.merging.tuning.candidate import Candidate
from prefdelta.merging.tuning.objectives import Information, Labels, Measured, PairLoss
from prefdelta.merging.tuning.validation import Validation
from prefdelta.recipe import ModelRef, Sampling, Search
from prefdelta.training.data import make_rows

RESULTS = Path(__file__).parent / "results" / "label_free_scale.md"
DOMAINS = {"reasoning": ("chain", "story", "audit", "ledger"), "search": ("lookup", "rephrase", "relay")}
SAMPLING = {
    "reasoning": Sampling(temperature=1.0, max_new_tokens=64, batch_size=512),
    "search": Sampling(temperature=1.0, max_new_tokens=32, batch_size=512),
}
METHODS = ("average", "ties", "gam")
OPTIONS = {"ties": {"density": 0.2}, "gam": {"reference": 0}}
MULTIPLES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
BETA = 0.5
BLIND: dict[str, Scale] = {"λ = 1": 1.0, "`norm-matched`": "norm-matched", "`projection`": "projection"}
CHOSEN_BY = {"labels": "labels", "agreement": "agreement", "pairs": f"pairs, β = {BETA:g}"}


class Row(NamedTuple):
    """One method of one domain: what was tried, what each objective chose of it, and the test score of each λ."""

    domain: str
    method: str
    scales: list[float]
    chosen: dict[str, int]
    scores: dict[str, list[float]]
    test: list[Measured]
    blind: dict[str, Measured]
    """The merge at what needs neither base nor data."""

    @property
    def best(self) -> float:
        return 100 * max(each.score for each in self.test)

    def points(self, by: str) -> float:
        return 100 * self.test[self.chosen[by]].score

    def regret(self, by: str) -> float:
        return self.best - self.points(by)

    def against_labels(self, by: str) -> Difference:
        ours, labels = self.test[self.chosen[by]].by_item, self.test[self.chosen["labels"]].by_item
        return paired_difference([100 * (a - b) for a, b in zip(ours, labels, strict=True)], unit=100.0)


def measure(run: Path, domain: str, count: int, tests: int, pairs: int) -> Iterator[Row]:
    loaded = load(ModelRef(path="micro:student"))
    deltas = [Adapter.open(path) for path in sorted((run / domain / "adapters" / "0").iterdir())]
    search = Environment.open(Search(corpus="micro:corpus", top_k=1, max_turns=4, max_words=350))
    tasks = DOMAINS[domain]
    setting = {
        "scorers": dict.fromkeys(tasks, "exact-match"),
        "sampling": SAMPLING[domain],
        "search": search if domain == "search" else None,
    }
    evaluator = Evaluator(loaded)
    asked = {task: micro.items(task, split="validation", count=count) for task in tasks}
    others = {task: micro.items(task, split="test", count=tests) for task in tasks}
    files = sorted((run / domain / "pairs").rglob("pairs.jsonl"))
    sets = [list(read_rows(file, Pair))[:pairs] for file in files]
    rows = make_rows([pair for each in sets for pair in each], loaded.tokenizer, thinking=False, max_length=512).rows
    objectives = {
        "labels": Labels(evaluator, items=asked, seed=0, **setting),
        "agreement": Information(evaluator, items=asked, seed=0, **setting),
        "pairs": PairLoss(loaded, rows, BETA),
    }
    on_others = Labels(evaluator, items=others, seed=1000, **setting)
    for method in METHODS:
        # One way to make the merges, four ways to measure them.
        makers = {name: Validation(made, deltas, options=OPTIONS) for name, made in objectives.items()}
        unscaled = Candidate.plain(range(len(deltas)), method, 1.0)
        start = makers["labels"].norm_matched(unscaled)
        tried = [unscaled.at(multiple * start) for multiple in MULTIPLES]
        scores = {name: [maker(candidate) for candidate in tried] for name, maker in makers.items()}
        test = [on_others(makers["labels"].merged(candidate)) for candidate in tried]
        yield Row(
            domain,
            method,
            [float(candidate.scale) for candidate in tried],
            {name: found.index(max(found)) for name, found in scores.items()},
            scores,
            test,
            {rule: on_others(makers["labels"].merged(unscaled.at(scale))) for rule, scale in BLIND.items()},
        )
        print(f"{domain} {method} done", flush=True)


def report(rows: list[Row], counts: tuple[int, int, int], load_before: float) -> str:
    count, tests, pairs = counts
    tasks = [f"{domain} has {len(names)} tasks" for domain, names in DOMAINS.items()]
    lines = [
        "# λ with and without labels",
        "",
        "The four deltas of `prefdelta demo` (embedded student, one training seed), merged at λ = ½, 1, 2, 4, 8",
        "and 16 times λ₀, at which the merge is as long as the mean single delta. λ is chosen in three ways, and every",
        f"choice is scored on other items: {tests} test items of each task; {' and '.join(tasks)}.",
        "TIES keeps a density of 0.2, GAM aligns to the first delta.",
        "Rerun: `prefdelta demo -o runs/demo` and `python benchmarks/label_free_scale.py runs/demo`.",
        "",
        f"- labels: exact match of one answer to each of {count} validation items a task.",
        f"- agreement: information from two answers to each of the same {count} items, gold answers unseen.",
        f"- pairs: −log σ(β m) with β = {BETA:g} over {pairs} preference pairs of each delta, the first of those that",
        "  it was trained on.",
        "",
        f"Machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, PyTorch {torch.__version__}, "
        f"load average {load_before:.1f} at the start.",
        "",
        "| domain | merge | λ = 1 | best of the grid | by labels | by agreement | by pairs | agreement − labels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row.points(by):.1f} (λ = {row.scales[row.chosen[by]]:.2g})" for by in CHOSEN_BY]
        best = max(range(len(row.test)), key=lambda place: row.test[place].score)
        gap = row.against_labels("agreement")
        same = row.chosen["agreement"] == row.chosen["labels"]
        difference = "the same λ" if same else f"{gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"
        lines.append(
            f"| {row.domain} | {row.method} | {100 * row.blind['λ = 1'].score:.1f} | "
            f"{100 * row.test[best].score:.1f} (λ = {row.scales[best]:.2g}) | {' | '.join(cells)} | {difference} |"
        )
    lines += ["", "| λ chosen by | mean regret in points | worst |", "|---|---|---|"]
    for by, name in CHOSEN_BY.items():
        regrets = [row.regret(by) for row in rows]
        lines.append(f"| {name} | {sum(regrets) / len(rows):.1f} | {max(regrets):.1f} |")
    for rule in BLIND:
        regrets = [row.best - 100 * row.blind[rule].score for row in rows]
        lines.append(f"| {rule} | {sum(regrets) / len(rows):.1f} | {max(regrets):.1f} |")
    lines += [
        "",
        "Regret is the test score of the grid's best λ minus that of the chosen one. The best is picked on the test",
        "items themselves, so regrets are on the high side. Intervals (95 %) are paired by item and hold for these",
        "trained deltas, not for training again. Merges of one domain share their deltas and their items: these",
        f"are {len(rows)} merges, not {len(rows)} experiments. Neighbours of the grid differ by a factor of 2, so it",
        "asks for the right order of λ, not for its second digit.",
        "",
        "All that was tried, in the order of λ: test score / score by labels / information / pair loss.",
        "",
        "| domain | merge | " + " | ".join(f"{multiple:g} λ₀" for multiple in MULTIPLES) + " |",
        "|---|---|" + "---|" * len(MULTIPLES),
    ]
    for row in rows:
        parts = [
            f"{100 * row.test[n].score:.1f} / {100 * row.scores['labels'][n]:.1f} / {row.scores['agreement'][n]:.3f} / "
            f"{-row.scores['pairs'][n]:.3f}"
            for n in range(len(row.test))
        ]
        lines.append(f"| {row.domain} | {row.method} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run of the demo")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--domains", default=",".join(DOMAINS))
    arguments = parser.parse_args()
    counts = (4, 4, 4) if arguments.quick else (60, 150, 50)
    load_before = os.getloadavg()[0]
    domains = arguments.domains.split(",")
    rows = [row for domain in domains for row in measure(arguments.run, domain, *counts)]
    text = report(rows, counts, load_before)
    print(text)
    if not arguments.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
