"""Data sets, read offline: local files, saved folders, and what is said when a name cannot be reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item
from prefdelta.generation.prompts import load_questions
from prefdelta.recipe import Questions

ROWS = [{"ask": f"{number}+1?", "gold": number + 1, "also": [f"0{number + 1}"]} for number in range(40)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _load(source: Path, **settings: Any) -> list[Item]:
    return load_questions(Questions(source=str(source), format="huggingface", **settings))


def test_a_local_file_with_its_columns_mapped(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    items = _load(path, question="ask", answer="gold", aliases="also", template="What is {question}")
    assert len(items) == 40
    assert items[3] == Item("row-3", "sums", ({"role": "user", "content": "What is 3+1?"},), ("4", "04"))
    parts = [_load(path, question="ask", split=split) for split in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 40
    assert all(parts)


def test_a_saved_folder_with_splits_and_ids(tmp_path: Path) -> None:
    splits = {
        name: datasets.Dataset.from_list([{"id": f"{name}{number}", "question": "?"} for number in range(2)])
        for name in ("train", "test")
    }
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    assert [item.id for item in _load(tmp_path / "saved", split="test")] == ["test0", "test1"]
    assert [item.id for item in _load(tmp_path / "saved")] == ["train0", "train1"]
    with pytest.raises(PrefdeltaError, match="did you mean 'test'"):
        _load(tmp_path / "saved", split="tset")


def test_a_folder_in_the_hubs_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gsm").mkdir()
    for split in ("train", "test"):
        (tmp_path / "gsm" / f"{split}.jsonl").write_text(json.dumps({"question": split}) + "\n", encoding="utf-8")
    items = _load(tmp_path / "gsm", split="test")
    assert [(item.id, item.task, item.messages[0]["content"]) for item in items] == [("test-0", "gsm", "test")]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _load(Path("~/gsm"), split="test") == items
    with pytest.raises(PrefdeltaError, match="dev"):
        _load(tmp_path / "gsm", split="dev")


@pytest.mark.parametrize(
    ("row", "settings", "gold"),
    [
        ({"o": ["x", "y", "z"], "a": 2}, {"choices": "o", "answer": "a"}, "C"),
        ({"o": ["x", "y", "z"], "a": "y"}, {"choices": "o", "answer": "a"}, "B"),
        ({"o": ["x", "y", "z"], "a": "A"}, {"choices": "o", "answer": "a"}, "A"),
        ({"o": {"text": ["x", "y"], "label": ["1", "2"]}, "a": "2"}, {"choices": "o", "answer": "a"}, "B"),
        ({"o": ["x", "y"]}, {"choices": "o"}, None),
    ],
)
def test_multiple_choice(tmp_path: Path, row: dict[str, Any], settings: dict[str, str], gold: str | None) -> None:
    path = tmp_path / "quiz.json"
    path.write_text(json.dumps([{"question": "which?", **row}]), encoding="utf-8")
    item = _load(path, **settings)[0]
    assert item.messages[0]["content"].startswith("which?\nOptions:\nA. x\nB. y")
    assert item.answers == ((gold,) if gold else ())


def test_one_column_an_option_is_shuffled_by_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "gpqa.jsonl"
    rows = [{"question": f"which {number}?", "Right": "r", "Wrong 1": "u", "Wrong 2": "v"} for number in range(90)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    items = _load(path, choices=("Right", "Wrong 1", "Wrong 2"), answer="Right")
    for item in items:
        assert f"{item.answers[0]}. r" in item.messages[0]["content"].splitlines()
    places = [item.answers[0] for item in items]
    assert all(15 < places.count(letter) < 45 for letter in "ABC")
    assert items == _load(path, choices=("Right", "Wrong 1", "Wrong 2"), answer="Right")


def test_mistakes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps({"question": "?", "options": ["x"], "answer": "q"}) + "\n", encoding="utf-8")
    with pytest.raises(PrefdeltaError, match="no column 'answers'; did you mean 'answer'"):
        _load(path, answer="answers")
    with pytest.raises(PrefdeltaError, match="'q' is none of the options"):
        _load(path, answer="answer", choices="options")
    path.write_text("not json", encoding="utf-8")
    with pytest.raises(PrefdeltaError, match=r"quiz\.jsonl"):
        _load(path)
    (tmp_path / "quiz.xml").write_text("<a/>", encoding="utf-8")
    with pytest.raises(PrefdeltaError, match=r"\.parquet"):
        _load(tmp_path / "quiz.xml")


def test_a_data_set_that_cannot_be_reached(tmp_path: Path) -> None:
    """In a process of its own, because offline mode is read when the library is imported."""
    program = (
        "from prefdelta.core.errors import PrefdeltaError\n"
        "from prefdelta.generation.prompts import load_questions\n"
        "from prefdelta.recipe import Questions\n"
        "try:\n"
        "    load_questions(Questions(source='openai/gsm8k', config='main', format='huggingface'))\n"
        "except PrefdeltaError as error:\n"
        "    print(error)\n"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    environment = {**os.environ, **offline, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert "openai/gsm8k" in done.stdout
    assert "local copy" in done.stdout
    assert len(done.stdout.splitlines()) == 1
