"""Items, their splits, and the world behind the search tasks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prefdelta import micro
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import digest
from prefdelta.micro import arithmetic, questions
from prefdelta.micro.world import ATTRIBUTES, SPLITS, people

ALL_TASKS = [task for tasks in micro.TASKS.values() for task in tasks]


@pytest.mark.parametrize("name", [*micro.TASKS, *ALL_TASKS])
def test_more_items_begin_with_the_same_items(name: str) -> None:
    assert micro.items(name, split="test", count=200)[:100] == micro.items(name, split="test", count=100)


@pytest.mark.parametrize("name", list(micro.TASKS))
def test_a_domain_takes_its_tasks_in_turn(name: str) -> None:
    tasks = micro.TASKS[name]
    found = micro.items(name, split="train", count=10 * len(tasks) + 1)
    assert [item.task for item in found] == [*(tasks * 10), tasks[0]]
    for task in tasks:
        assert [item for item in found if item.task == task][:10] == micro.items(task, split="train", count=10)


def test_ids_and_prompts_are_unique_and_no_prompt_is_in_two_splits() -> None:
    ids: set[str] = set()
    prompts: set[str] = set()
    counts = {"train": 4000, "validation": 780, "test": 1600}
    for domain in micro.TASKS:
        for split, count in counts.items():
            found = micro.items(domain, split=split, count=count)
            ids |= {item.id for item in found}
            prompts |= {item.messages[-1]["content"] for item in found}
    assert len(ids) == len(prompts) == 2 * sum(counts.values())


@pytest.mark.parametrize("task", ALL_TASKS)
@pytest.mark.parametrize("count", [10**6, 10**30])
def test_more_items_than_there_are_is_a_refusal_and_no_endless_search(task: str, count: int) -> None:
    with pytest.raises(PrefdeltaError, match="has only"):
        micro.items(task, split="validation", count=count)


def test_all_sums_are_counted() -> None:
    count = arithmetic.available("chain", "validation")
    assert len(micro.items("chain", split="validation", count=count)) == count
    with pytest.raises(PrefdeltaError, match=f"has only {count} items"):
        micro.items("chain", split="validation", count=count + 1)
    assert arithmetic.available("story", "validation") == count * len(arithmetic.THINGS)


def test_a_sum_is_in_one_split_however_it_is_told() -> None:
    splits: dict[str, set[str]] = {}
    for task in arithmetic.TASKS:
        for split in SPLITS:
            splits.setdefault(split, set()).update(
                arithmetic.read(item.messages[-1]["content"]).in_digits
                for item in micro.items(task, split=split, count=300)
            )
    assert not splits["train"] & splits["test"]
    assert not splits["train"] & splits["validation"]
    assert not splits["validation"] & splits["test"]


def test_people_belong_to_one_split_with_their_bosses() -> None:
    for person in people().values():
        assert person.boss is None or people()[person.boss].split == person.split


@pytest.mark.parametrize("task", ALL_TASKS)
def test_prompts_can_be_read_back(task: str) -> None:
    module = arithmetic if task in arithmetic.TASKS else questions
    for item in micro.items(task, split="validation", count=50):
        assert module.read(item.messages[-1]["content"]).prompt == item.messages[-1]["content"]


def test_answers_of_sums_are_the_python_value_of_the_sum() -> None:
    for item in micro.items("ledger", split="test", count=100):
        problem = arithmetic.read(item.messages[-1]["content"])
        assert item.answers == (str(eval(problem.in_digits)),)  # noqa: S307 - digits and signs that we wrote


def test_drafts_are_mostly_but_not_always_wrong() -> None:
    found = micro.items("audit", split="train", count=2000)
    wrong = sum(str(arithmetic.read(item.messages[-1]["content"]).draft) != item.answers[0] for item in found)
    assert 0.75 < wrong / 2000 < 0.85


def test_items_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from prefdelta import micro; from prefdelta.core.records import digest;"
        "print(digest([micro.items(d, split='test', count=50) for d in micro.TASKS] + [micro.corpus()]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = digest([micro.items(domain, split="test", count=50) for domain in micro.TASKS] + [micro.corpus()])
    assert outputs == {here}


def test_the_corpus_tells_every_fact_once() -> None:
    texts = [document.text for document in micro.corpus()]
    assert len(set(texts)) == len(texts) == len({document.id for document in micro.corpus()})
    places = {place for person in people().values() for place in person.places.values()}
    facts = [text for text in texts if places & set(text.split())]
    assert len(facts) == len(people()) * len(ATTRIBUTES)


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: micro.items("chian", split="test", count=1), "'chain'"),
        (lambda: micro.items("chain", split="tests", count=1), "'test'"),
        (lambda: micro.items("lookup", split="validation", count=10_000), "260"),
        (lambda: micro.model_path("ash-week"), "'ash-weak'"),
    ],
)
def test_mistakes_are_told(call, hint: str) -> None:
    with pytest.raises(PrefdeltaError, match=hint):
        call()
