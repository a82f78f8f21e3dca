"""Instructions that a rule can check: every rule tells what follows it from what does not."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Sample, Span
from prefdelta.evaluation.benchmarks import prepare
from prefdelta.evaluation.instructions import RULES, TOPICS, InstructionOptions, follows, instructions, sentences
from prefdelta.evaluation.repetition import repetition
from prefdelta.experiments.real import topics
from prefdelta.recipe import Benchmark, Named, Sampling, configure


def sample(text: str, finish: Any = "stop") -> Sample:
    return Sample("x", (Span(text),) if text else (), finish, tokens=0)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"rule": "sentences", "count": 2}, 'It is 3.5 metres. "Really?"', "One. Two. Three."),
        ({"rule": "sentences", "count": 1}, "e.g", ""),
        ({"rule": "at-most-words", "count": 3}, "one two three", "one two three four"),
        ({"rule": "include", "word": "water"}, "Water, of course.", "An underwater boat."),
        ({"rule": "no-commas"}, "No such thing.", "Well, one."),
        ({"rule": "lower-case"}, "all small, 7 of them.", "Not so."),
        ({"rule": "lower-case"}, "a", "123"),
        ({"rule": "ends-with", "text": "The end."}, "So it was. The end.\n", "The end. Or not."),
        ({"rule": "bullets", "count": 2}, "- one\n\n- two", "Here:\n- one\n- two"),
        ({"rule": "bullets", "count": 2}, "- one\n- two\n", "- one\n- two\n- three"),
        ({"rule": "json", "keys": ["title", "text"]}, '{"title": "a", "text": []}', '{"title": "a"}'),
        ({"rule": "json", "keys": ["title", "text"]}, ' {"text": 1, "title": 2} ', 'Sure: {"title": 1, "text": 2}'),
    ],
)
def test_a_rule_tells_what_follows_it_from_what_does_not(rule: dict[str, Any], good: str, bad: str) -> None:
    assert follows(sample(good), (json.dumps(rule),)).value == 1
    assert follows(sample(bad), (json.dumps(rule),)).value == 0


def test_all_rules_must_be_followed_and_cut_answers_follow_none() -> None:
    both = ('{"rule": "no-commas"}', '{"rule": "at-most-words", "count": 2}')
    assert follows(sample("one two"), both).value == 1
    half = follows(sample("one two three"), both)
    assert (half.value, half.extra["followed"], half.parsed) == (0, 0.5, "broken")
    assert follows(sample("one two", "length"), both).extra["followed"] == 0
    assert follows(sample(""), both).parsed is None
    deep = json.dumps({"rule": "json", "keys": ["title"]})
    assert follows(sample("[" * 100_000), (deep,)).value == 0


def test_the_items_are_fixed_by_the_seed_and_meet_every_rule_equally_often() -> None:
    items = instructions(InstructionOptions(count=80))
    assert items == instructions(InstructionOptions(count=80))
    assert items[:40] == instructions(InstructionOptions(count=40))
    assert items != instructions(InstructionOptions(count=80, seed=1))
    assert Counter(json.loads(item.answers[0])["rule"] for item in items) == dict.fromkeys(RULES, 10)
    for item in items:
        names = [json.loads(answer)["rule"] for answer in item.answers]
        assert len(set(names)) == len(names)
        assert set(names) != {"lower-case", "ends-with"}
    # The first item of all, so that a change of Python's random numbers is noticed.
    assert items[0].messages[0]["content"] == "Describe to a child how rain forms. Answer in exactly 3 sentences."


def test_a_recipe_asks_them_by_name() -> None:
    raw = {
        "name": "rules",
        "benchmark": {"name": "instructions", "options": {"count": 60}},
        "validation": 10,
        "test": 50,
    }
    side = prepare(configure(Benchmark, raw, origin="test"), "test", Sampling())
    assert len(side.items) == 50
    assert side.scorer == Named(name="instructions")


def test_a_gold_answer_that_is_no_rule_is_told() -> None:
    with pytest.raises(PrefdeltaError, match="is no rule of the scorer 'instructions'"):
        follows(sample("a"), ("42",))
    with pytest.raises(PrefdeltaError, match="lacks 'count'"):
        follows(sample("a"), ('{"rule": "sentences"}',))
    with pytest.raises(PrefdeltaError, match=r'"count": "5"}\' of the scorer .* cannot be used'):
        follows(sample("a"), ('{"rule": "at-most-words", "count": "5"}',))


def test_training_topics_are_no_topics_of_the_items() -> None:
    assert not {*TOPICS} & {*topics.TOPICS}
    assert len({*topics.TOPICS}) == len(topics.TOPICS)


def test_sentences_and_repetition() -> None:
    assert len(sentences("Hi! What? 3.5 is a number. (So it is.)")) == 4
    assert sentences("...") == []
    assert repetition("a b c d a b c d") == pytest.approx(0.2)
    assert repetition("one two three") == 0
