"""Scorers against the verdicts that were published with real models' answers."""

from __future__ import annotations

import json
from pathlib import Path

from prefdelta.core.records import Sample, Span
from prefdelta.evaluation.scoring import choice, final_number
from prefdelta.generation.datasets import mmlu_pro

GSM8K_SYSTEMS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def written(text: str) -> Sample:
    return Sample("item", (Span(text),), "stop", tokens=1)


def test_choice_agrees_with_the_published_predictions(shared_data: Path) -> None:
    """MMLU-Pro's own extraction, on 12,032 answers of Llama-3-8B; accuracy without its random guesses is 34.2 %."""
    rows = mmlu_pro.load(shared_data / "outputs" / "mmlu_pro" / "Meta-Llama-3-8B.zip")
    agree = right = 0
    for row, sample in zip(rows, mmlu_pro.samples(rows), strict=True):
        answer = sample.text
        score = choice(written(answer), mmlu_pro.item(row).answers)
        agree += score.parsed == row["pred"]
        right += score.value == 1
    assert len(rows) == 12032
    assert agree / len(rows) > 0.995
    assert abs(right / len(rows) - 0.342) < 0.002


def test_final_number_agrees_with_the_published_verdicts(shared_data: Path) -> None:
    """Four systems' solutions of all 1,319 GSM8K test problems."""
    folder = shared_data / "outputs" / "gsm8k"
    golds = [json.loads(line)["answer"] for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line) for line in (folder / "example_model_solutions.jsonl").read_text("utf-8").splitlines()]
    verdicts = [
        (final_number(written(row[system]["solution"]), [gold]).value == 1, row[system]["is_correct"])
        for row, gold in zip(rows, golds, strict=True)
        for system in GSM8K_SYSTEMS
    ]
    assert len(verdicts) == 4 * 1319
    assert all(ours == published for ours, published in verdicts)
