"""A made-up run for the report's tests: the numbers mean nothing, their relations are like those of a real run."""

from __future__ import annotations

from functools import cache

import numpy as np

from prefdelta.core.records import Item, Record
from prefdelta.experiments.aggregation.summary import DomainOutcome, Variant, summarise
from prefdelta.merging.tuning.choice import select
from prefdelta.report import DeltaLineage, DomainLineage, Node, ReportInput, pick_transcripts

DELTAS = ("ash", "birch", "cedar", "elm")
METHODS = ("average", "gam", "gam-orthonormal", "gam-norm-matched")
TASKS = {"reasoning": ("chain", "story", "verify"), "search": ("single", "flaky", "hop")}
BEHAVIOURS = {"reasoning": ("steps", "setup", "check", "close"), "search": ("search", "query", "retry", "hop")}
SCALES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
N = 60


def items(domain: str) -> dict[str, list[Item]]:
    return {
        task: [
            Item(f"{task}-{n}", task, ({"role": "user", "content": f"start {n} add 2 <add> 3 ?"},), (str(n + 5),))
            for n in range(N)
        ]
        for task in TASKS[domain]
    }


def records(domain: str, rate: float, seed: int) -> list[Record]:
    """Common random numbers: the same item is hard for every variant."""
    rng = np.random.default_rng(17)
    jitter = np.random.default_rng(seed + 100).normal(0, 0.02)
    rows = []
    for task in TASKS[domain]:
        for number, (hard, noise) in enumerate(zip(rng.random(N), rng.random(N), strict=True)):
            right = 0.8 * hard + 0.2 * noise < rate + jitter
            shown = "<search>mia stone</search><information>mia stone was born in oslo</information>"
            text = (shown if domain == "search" else f"{number}+2={number + 2} ") + f"<answer>{number + 5}</answer>"
            extra = {f"behaviour:{name}": float(noise < rate) for name in BEHAVIOURS[domain]}
            output = text if right else text[: len(text) // 2]
            rows.append(
                Record(task, f"{task}-{number}", float(right), "x" if right else None, output, not right, 20, extra)
            )
    return rows


def outcome(domain: str, seeds: tuple[int, ...], shift: float = 0.0) -> DomainOutcome:
    rates: list[tuple[Variant, float]] = [(Variant("student", "student"), 0.32)]
    for delta in DELTAS:
        rates.append((Variant(f"weak:{delta}-weak", "weak", f"{delta}-weak"), 0.2))
        rates.append((Variant(f"weak:{delta}-weaker", "weak", f"{delta}-weaker"), 0.1))
    for index, delta in enumerate(DELTAS):
        rates.append((Variant(delta, "single", delta, 1.0, norm=1.0, norm_ratio_to_average=2.0), 0.36 + 0.03 * index))
        tuned = Variant(f"{delta}@1.5", "single", delta, 1.5, tuned=True, norm=1.5, norm_ratio_to_average=3.0)
        rates.append((tuned, 0.38 + 0.03 * index))
    for index, method in enumerate(METHODS):
        ratio = 1 - 0.15 * index
        one = Variant(method, "merge", method, 1.0, norm=0.5, norm_ratio_to_average=ratio, cosine_to_average=0.9)
        rates.append((one, 0.45 - 0.04 * index))
        tuned = Variant(f"{method}@3", "merge", method, 3.0, tuned=True, norm=1.5, norm_ratio_to_average=3 * ratio)
        rates.append((tuned, 0.72 - 0.06 * index + shift))
    for control, rate in (("sft", 0.24), ("shuffled", 0.32), ("reversed", 0.21)):
        for index, delta in enumerate(DELTAS):
            rates.append((Variant(f"{control}.{delta}", "control", f"{control}.{delta}", 1.0), rate + 0.01 * index))
        rates.append((Variant(f"{control}.average", "control", f"{control}.average", 1.0, tuned=True), rate))
    made = {
        (variant.name, None if variant.kind == "weak" else seed): records(domain, rate, seed)
        for variant, rate in rates
        for seed in seeds
    }
    hump = {scale: 0.4 * np.exp(-(np.log(scale / 3.2) ** 2)) for scale in SCALES}
    merges = {(m, s): [0.32 + hump[s] * (1 - 0.2 * i) for _ in seeds] for i, m in enumerate(METHODS) for s in SCALES}
    singles = {(d, s): [0.32 + 0.3 * hump[s] * (1 + 0.2 * i)] for i, d in enumerate(DELTAS) for s in SCALES}
    return DomainOutcome([variant for variant, _ in rates], made, select(merges), select(singles))


def geometry() -> dict[str, object]:
    pairs = [
        {"first": a, "second": b, "cosine": 0.1 * (b - a) - 0.12, "overlap_u": 0.3, "overlap_v": 0.2 + 0.1 * a}
        for a in range(4) for b in range(a + 1, 4)
    ]  # fmt: skip
    return {"names": DELTAS, "norms": (1.0, 1.2, 0.9, 1.1), "pairs": pairs}


def lineage(domain: str) -> DomainLineage:
    def node(label: str, detail: str = "") -> Node:
        return Node(label, detail, (label * 40).encode().hex()[:64])

    return DomainLineage(
        student=node("micro:student"),
        prompts=node(f"{domain} prompts", "4,000"),
        deltas=tuple(
            DeltaLineage(d, node(f"{d}-weak"), node(f"{d}-weaker"), node("3,712 pairs"), node("adapter", "DPO"))
            for d in DELTAS
        ),
        merged=node("average", "λ = 3"),
        folder=f"{domain}/merged/adapter",
        rank=16,
    )


@cache
def sample(
    seeds: tuple[int, ...] = (0, 1, 2), domains: tuple[str, ...] = ("reasoning", "search"), shift: float = 0.0
) -> ReportInput:
    outcomes = {name: outcome(name, seeds, shift) for name in domains}
    return ReportInput(
        results=summarise("sample", seeds, outcomes),
        recipe="name: sample\nstudent: micro:student\n# <script>alert(1)</script>\n",
        description="Made-up numbers.",
        geometry={name: geometry() for name in domains},
        transcripts={
            name: pick_transcripts(items(name), made.records["student", seeds[0]], made.records["average@3", seeds[0]])
            for name, made in outcomes.items()
        },
        lineage={name: lineage(name) for name in domains},
        versions={"torch": "2.13.0", "peft": "0.21.2"},
        limits=("The student already has every skill; only how often it uses them changes.",),
    )
