"""Questions from every kind of source, and how they are dressed and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefdelta import micro
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, write_rows
from prefdelta.generation.prompts import draw_prompts, load_questions
from prefdelta.recipe import Prompts, Questions


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "questions.jsonl"
    write_rows(path, [
        Item(f"q{number}", "sums", ({"role": "user", "content": f"{number} + {{1}}?"},), (str(number + 1),))
        for number in range(500)
    ])  # fmt: skip
    return str(path)


def test_a_file_is_taken_whole_or_in_three_disjoint_parts(source: str) -> None:
    whole = load_questions(Questions(source=source))
    assert [item.id for item in whole] == [f"q{number}" for number in range(500)]
    parts = {name: load_questions(Questions(source=source, split=name)) for name in ("train", "validation", "test")}
    assert sorted(item.id for part in parts.values() for item in part) == sorted(item.id for item in whole)
    assert len(parts["train"]) == pytest.approx(300, abs=40)
    assert len(parts["validation"]) == pytest.approx(100, abs=30)
    with pytest.raises(PrefdeltaError, match="no split 'dev'"):
        load_questions(Questions(source=source, split="dev"))


def test_count_takes_the_first(source: str) -> None:
    whole = load_questions(Questions(source=source, split="test"))
    assert load_questions(Questions(source=source, split="test"), 7) == whole[:7]


def test_messages_are_system_examples_question(source: str) -> None:
    examples = ({"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"})
    dressed = load_questions(
        Questions(source=source, system="be brief", examples=examples, template="Q: {question}\n{x}"), 1
    )[0]
    assert dressed.messages == (
        {"role": "system", "content": "be brief"},
        *examples,
        {"role": "user", "content": "Q: 0 + {1}?\n{x}"},
    )
    assert dressed.answers == ("1",)


def test_a_system_prompt_takes_the_place_of_an_items_own(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    earlier = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    asked = {"role": "user", "content": "c"}
    write_rows(path, [Item("q", "t", ({"role": "system", "content": "old"}, *earlier, asked))])
    kept = load_questions(Questions(source=str(path), template="{question}!"))[0].messages
    assert kept == ({"role": "system", "content": "old"}, *earlier, {"role": "user", "content": "c!"})
    replaced = load_questions(Questions(source=str(path), system="new"))[0].messages
    assert replaced == ({"role": "system", "content": "new"}, *earlier, asked)


def test_a_draw_is_seeded_without_replacement_and_free_of_the_sources_order(source: str, tmp_path: Path) -> None:
    drawn = draw_prompts(Prompts(source=source, count=50, seed=1))
    assert len({item.id for item in drawn}) == 50
    assert draw_prompts(Prompts(source=source, count=20, seed=1)) == drawn[:20]
    other = draw_prompts(Prompts(source=source, count=50, seed=2))
    assert {item.id for item in other} != {item.id for item in drawn}
    turned = tmp_path / "turned.jsonl"
    turned.write_text("\n".join(reversed(Path(source).read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    assert draw_prompts(Prompts(source=str(turned), count=50, seed=1)) == drawn


def test_embedded_questions_come_by_name_and_split() -> None:
    name = next(iter(micro.TASKS))
    five = load_questions(Questions(source=f"micro:{name}", split="test"), 5)
    assert five == micro.items(name, split="test", count=5)
    first, second = (draw_prompts(Prompts(source=f"micro:{name}", count=6, seed=seed)) for seed in (0, 1))
    assert first + second == micro.items(name, split="train", count=12)
    # Too long ones are left out, and others take their places.
    sums = {"source": "micro:reasoning", "count": 12, "max_characters": 20}
    first, second = (draw_prompts(Prompts(**sums, seed=seed)) for seed in (0, 1))
    short = [item for item in micro.items("reasoning", split="train", count=99) if item.task in ("chain", "audit")]
    assert first + second == short[:24]
    assert load_questions(Questions(source="micro:reasoning", max_characters=20), 24) == short[:24]
    with pytest.raises(PrefdeltaError, match="has only"):
        load_questions(Questions(source="micro:reasoning", max_characters=3), 24)
    with pytest.raises(PrefdeltaError, match="how many"):
        load_questions(Questions(source=f"micro:{name}"))


def test_mistakes_are_told(source: str, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="has 500 questions here, fewer than the 501"):
        draw_prompts(Prompts(source=source, count=501))
    with pytest.raises(PrefdeltaError, match="no place for the question"):
        load_questions(Questions(source=source, template="{Question}"))
    with pytest.raises(PrefdeltaError, match="gone"):
        load_questions(Questions(source=str(tmp_path / "gone.jsonl")))
    path = tmp_path / "twice.jsonl"
    write_rows(path, [Item("q", "t", ({"role": "user", "content": "a"},))] * 2)
    with pytest.raises(PrefdeltaError, match=r"1 questions of .* repeat an id"):
        draw_prompts(Prompts(source=str(path), count=1))
    path.write_text(json.dumps({"id": "q", "task": "t", "messages": []}), encoding="utf-8")
    with pytest.raises(PrefdeltaError, match="'q' asks nothing"):
        load_questions(Questions(source=str(path)))
