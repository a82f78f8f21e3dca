"""Our scorers on real models' published answers, against the verdicts that were published with them.

    python benchmarks/published_scores.py --data ../shared/data

``--data`` is a folder with ``outputs/gsm8k`` (OpenAI), ``outputs/mmlu_pro`` (TIGER-Lab) and ``search/traces``
(R1-Searcher).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prefdelta.agent.traces import Trace, read_traces
from prefdelta.core.records import Sample, Span
from prefdelta.evaluation.scoring import choice, final_number, token_f1
from prefdelta.generation.datasets import mmlu_pro

GSM8K_SYSTEMS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
MMLU_PRO = {"Llama-2-7b-hf": 0.183, "Mistral-7B-v0.1": 0.298, "Meta-Llama-3-8B": 0.342}


def written(text: str) -> Sample:
    """A finished answer."""
    return Sample("", (Span(text),), "stop", tokens=0)


def gsm8k(folder: Path) -> list[str]:
    """Rows of the table, and every disagreement."""
    golds = [json.loads(line)["answer"] for line in (folder / "test.jsonl").read_text("utf-8").splitlines()]
    rows = [json.loads(line) for line in (folder / "example_model_solutions.jsonl").read_text("utf-8").splitlines()]
    lines = ["| system | n | published correct % | ours % | agreement % |", "|---|---|---|---|---|"]
    differing = []
    for system in GSM8K_SYSTEMS:
        theirs = [bool(row[system]["is_correct"]) for row in rows]
        scores = [final_number(written(row[system]["solution"]), [gold]) for row, gold in zip(rows, golds, strict=True)]
        ours = [score.value == 1 for score in scores]
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        lines.append(
            f"| {system} | {len(rows)} | {100 * sum(theirs) / len(rows):.2f} | {100 * sum(ours) / len(rows):.2f} | "
            f"{100 * same / len(rows):.2f} |"
        )
        differing += [
            f"* {system}, problem {number}: we read {score.parsed!r}, published as {'right' if verdict else 'wrong'}"
            for number, (score, mine, verdict) in enumerate(zip(scores, ours, theirs, strict=True))
            if mine != verdict
        ]
    return [*lines, "", "Disagreements:", "", *(differing or ["* none"])]


def accuracies(folder: Path) -> list[str]:
    """MMLU-Pro: from the raw text, without the random guesses that the publisher makes for unreadable answers."""
    lines = [
        "| model | n | published | ours | difference | unreadable % | our letter = published letter, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, published in MMLU_PRO.items():
        rows = mmlu_pro.load(folder / f"{name}.zip")
        scores = [
            choice(written(sample.text), mmlu_pro.item(row).answers)
            for row, sample in zip(rows, mmlu_pro.samples(rows), strict=True)
        ]
        ours = sum(score.value for score in scores) / len(rows)
        same = sum(score.parsed == row.get("pred") for score, row in zip(scores, rows, strict=True))
        lines.append(
            f"| {name} | {len(rows)} | {published:.3f} | {ours:.4f} | {ours - published:+.4f} | "
            f"{100 * sum(score.parsed is None for score in scores) / len(rows):.2f} | {100 * same / len(rows):.2f} |"
        )
    return lines


def searches(name: str, traces: Sequence[Trace]) -> list[str]:
    """EM, sub-EM and F1 of the answers, and how they relate to the judge's verdicts."""
    scores = [token_f1(trace.sample, [trace.answer]) for trace in traces]
    em = [score.extra["em"] == 1 for score in scores]
    judged = [trace.judged for trace in traces]
    counts = Counter(zip(em, judged, strict=True))
    some = Counter(
        "F1 above 0" if score.value > 0 else "F1 0"
        for score, match, verdict in zip(scores, em, judged, strict=True)
        if verdict and not match
    )

    def mean(values: Sequence[float]) -> str:
        return f"{100 * sum(values) / len(values):.1f}"

    paraphrases = [
        f"* {trace.answer!r} answered by {score.parsed!r}"
        for trace, score in zip(traces, scores, strict=True)
        if trace.judged and score.value == 0
    ]
    return [
        f"### {name}",
        "",
        "| n | judged right % | EM | sub-EM | F1 | EM = verdict % | EM 1, judged wrong | EM 0, judged right |",
        "|---|---|---|---|---|---|---|---|",
        f"| {len(traces)} | {mean(judged)} | {mean(em)} | {mean([score.extra['sub_em'] for score in scores])} | "
        f"{mean([score.value for score in scores])} | {mean([a == b for a, b in zip(em, judged, strict=True)])} | "
        f"{counts[True, False]} | {counts[False, True]} |",
        "",
        f"Of the {counts[False, True]} that the judge accepts and EM does not, {some['F1 above 0']} share words with "
        f"the gold answer (longer or shorter names, another form) and {some['F1 0']} share none:",
        "",
        *(paraphrases or ["* none"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "published_scores.md")
    options = parser.parse_args()
    traces = options.data / "search" / "traces"
    lines = [
        "# Our scorers on published answers",
        "",
        "`python benchmarks/published_scores.py --data DATA`. Nothing here depends on the machine.",
        "",
        "## GSM8K: four systems of Cobbe et al. 2021 (goal: at least 99.5 % agreement)",
        "",
        *gsm8k(options.data / "outputs" / "gsm8k"),
        "",
        "## MMLU-Pro: three models (goal: within 0.002)",
        "",
        *accuracies(options.data / "outputs" / "mmlu_pro"),
        "",
        "The publisher takes the first letter of an answer that names several, as (A) and (B); we take none of them.",
        "",
        "## Search traces of R1-Searcher's agent, against its judge's verdicts",
        "",
        "A judge accepts another wording, EM does not; so EM should never be 1 where the judge says wrong.",
        "",
        *searches("HotpotQA", read_traces(traces / "hotpotqa_qwen.jsonl")),
        "",
        *searches("Bamboogle", read_traces(traces / "bamboogle_qwen.jsonl")),
    ]
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
