"""Published MMLU-Pro outputs: the real files where they are at hand, and small ones of our own."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from prefdelta.core.chat import completion_ids, end_of_turn_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.answer_format import has_format
from prefdelta.evaluation.scoring import SCORERS
from prefdelta.generation.datasets import mmlu_pro
from prefdelta.generation.prompts import load_questions
from prefdelta.generation.responses import import_responses
from prefdelta.recipe import Imported, Questions
from tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()

ENTRY = {
    "question_id": 7,
    "question": "Which?",
    "options": ["red", "blue"],
    "answer": "B",
    "category": "art",
    "generated_text": " Blue. The answer is (B).\n\nQuestion:\nWhat next?\nQuestion: x",
}


def _write(path: Path, entries: Any) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("model", "accuracy"), [("Llama-2-7b-hf", 0.183), ("Mistral-7B-v0.1", 0.298), ("Meta-Llama-3-8B", 0.342)]
)
def test_real_outputs_have_their_published_accuracy(shared_data: Path, model: str, accuracy: float) -> None:
    path = shared_data / "outputs" / "mmlu_pro" / f"{model}.zip"
    items = load_questions(Questions(source=str(path), format="mmlu-pro"))
    samples = import_responses(Imported(path=str(path), format="mmlu-pro"), items)
    assert len({item.id for item in items}) == len(samples) == 12_032
    scores = [SCORERS["choice"](sample, item.answers).value for item, sample in zip(items, samples, strict=True)]
    assert sum(scores) / len(scores) == pytest.approx(accuracy, abs=0.002)
    assert not any(re.search(r"\nQuestion:", sample.text) for sample in samples)
    ended = sum(sample.finish == "stop" for sample in samples) / len(samples)
    assert 0.8 < ended < 0.95


def test_real_outputs_of_two_models_answer_the_same_questions(shared_data: Path) -> None:
    folder = shared_data / "outputs" / "mmlu_pro"
    one, other = (
        load_questions(Questions(source=str(folder / f"{name}.zip"), format="mmlu-pro"))
        for name in ("Llama-2-7b-hf", "Mistral-7B-v0.1")
    )
    assert one == other


def test_a_question_with_its_options_and_the_answer_up_to_the_next_question(tmp_path: Path) -> None:
    path = _write(tmp_path / "out.json", [ENTRY])
    item = load_questions(Questions(source=str(path), format="mmlu-pro"))[0]
    assert (item.id, item.task, item.answers) == ("7", "art", ("B",))
    assert item.messages[0]["content"] == "Which?\nOptions:\nA. red\nB. blue"
    sample = import_responses(Imported(path=str(path), format="mmlu-pro"), [item])[0]
    assert (sample.item, sample.text, sample.finish) == ("7", "Blue. The answer is (B).", "stop")


@pytest.mark.parametrize(
    ("text", "said", "base", "chat"),
    [
        ("So (A).\n\n", "So (A).", "stop", "unknown"),
        ("So it is", "So it is", "length", "unknown"),
        ("\nQuestion: y", "", "stop", "stop"),
        ("", "", "length", "unknown"),
        ("The answer is (B).", "The answer is (B).", "stop", "stop"),
        ("The answer is **C**.", "The answer is **C**.", "stop", "stop"),
        ("The answer is (B) because", "The answer is (B) because", "length", "unknown"),
    ],
)
def test_how_an_answer_ended_goes_by_how_its_file_ends_answers(text: str, said: str, base: str, chat: str) -> None:
    for others, finish in (("It is.\n\n", base), ("It is.", chat)):
        entries = [{**ENTRY, "generated_text": each} for each in (text, others, others)]
        sample = mmlu_pro.samples(entries)[0]  # type: ignore[arg-type]
        assert (sample.text, sample.finish) == (said, finish)
        assert has_format(sample, "finished") != (finish == "length")
        assert (end_of_turn_ids(TOKENIZER)[-1] in completion_ids(TOKENIZER, sample)[0]) == (finish == "stop")


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="no 'options'"):
        mmlu_pro.load(_write(tmp_path / "a.json", [{key: ENTRY[key] for key in ("question_id", "question")}]))
    with pytest.raises(PrefdeltaError, match="no list"):
        mmlu_pro.load(_write(tmp_path / "b.json", {}))
    (tmp_path / "c.zip").write_bytes(b"PK nonsense")
    with pytest.raises(PrefdeltaError, match=r"c\.zip is no MMLU-Pro"):
        mmlu_pro.load(tmp_path / "c.zip")
    with zipfile.ZipFile(tmp_path / "d.zip", "w"):
        pass
    with pytest.raises(PrefdeltaError, match=r"0 \.json files"):
        mmlu_pro.load(tmp_path / "d.zip")
    with pytest.raises(PrefdeltaError, match=r"cannot read .*e\.json"):
        mmlu_pro.load(tmp_path / "e.json")
