"""The scripted answers, the search engine's misses, and the reading of behaviours."""

from __future__ import annotations

import random
import re

import pytest

from micro_family.demonstrations import demonstrate, query
from micro_family.rates import STRONG_SUIT, rates
from prefdelta import micro
from prefdelta.core.records import Item, Sample
from prefdelta.micro import questions
from prefdelta.micro.tasks import needs
from prefdelta.micro.world import ATTRIBUTES

ALL_TASKS = [task for tasks in micro.TASKS.values() for task in tasks]
ALWAYS = dict.fromkeys(micro.BEHAVIOURS, 1.0)


def answer(item: Item, shown, search, draw) -> Sample:
    return Sample(item.id, demonstrate(item, shown, search, draw), "stop", 0)


def right(item: Item, sample: Sample) -> bool:
    given = re.findall(r"<answer>(.*?)</answer>", sample.own_text)
    return bool(given) and given[-1] in item.answers


@pytest.mark.parametrize("task", ALL_TASKS)
def test_all_needed_behaviours_are_always_enough(task, search) -> None:
    draw = random.Random(0)
    shown = {behaviour: float(behaviour in needs(task)) for behaviour in micro.BEHAVIOURS}
    for split in ("train", "validation", "test"):
        for item in micro.items(task, split=split, count=250):
            sample = answer(item, shown, search, draw)
            assert right(item, sample), sample.text
            assert micro.behaviours(item, sample) == dict.fromkeys(needs(task), True)


@pytest.mark.parametrize(("task", "missing"), [(task, one) for task in ALL_TASKS for one in needs(task)])
def test_without_one_of_them_only_luck_helps(task, missing, search) -> None:
    draw = random.Random(0)
    found = micro.items(task, split="test", count=500)
    samples = [answer(item, {**ALWAYS, missing: 0.0}, search, draw) for item in found]
    lucky = sum(right(item, sample) for item, sample in zip(found, samples, strict=True)) / len(found)
    assert lucky <= (0.27 if missing == "check" else 0.12)  # a fifth of the drafts is right
    assert not any(micro.behaviours(item, sample)[missing] for item, sample in zip(found, samples, strict=True))


def test_coins_come_up_as_often_as_asked(search) -> None:
    draw = random.Random(0)
    for domain in micro.TASKS:
        shown: dict[str, list[bool]] = {}
        for item in micro.items(domain, split="train", count=4000):
            for behaviour, value in micro.behaviours(item, answer(item, rates("student"), search, draw)).items():
                shown.setdefault(behaviour, []).append(value)
        for behaviour, values in shown.items():
            assert abs(sum(values) / len(values) - rates("student")[behaviour]) < 0.08, behaviour


def test_a_first_search_in_the_words_of_the_question_hits_or_misses_as_designed(search) -> None:
    for task in micro.TASKS["search"]:
        for item in micro.items(task, split="test", count=540):
            question = questions.read(item.messages[-1]["content"])
            if task == "relay":
                assert search(f"boss {question.name}").startswith(f"boss of {question.name} is ")
                continue
            found = search(query(question.attribute, question.name))
            assert (item.answers[0] in found.split()) == (task == "lookup")
            if task == "rephrase":
                other = search(query(ATTRIBUTES[question.attribute][0], question.name))
                assert other.startswith(question.name)
                assert other.endswith(item.answers[0])


def test_half_a_name_finds_somebody_else(search) -> None:
    found = micro.items("lookup", split="test", count=540)
    hits = 0
    for item in found:
        question = questions.read(item.messages[-1]["content"])
        hits += question.name in search(query(question.attribute, question.name.split()[0]))
    assert hits / len(found) < 0.1


def test_each_family_has_a_suit_of_its_own_in_each_domain() -> None:
    suits = [behaviour for pair in STRONG_SUIT.values() for behaviour in pair]
    assert sorted(suits) == sorted(micro.BEHAVIOURS)
    reasoning = {behaviour for task in micro.TASKS["reasoning"] for behaviour in needs(task)}
    for first, second in STRONG_SUIT.values():
        assert first in reasoning
        assert second not in reasoning
