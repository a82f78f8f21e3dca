"""Instructions that a rule can check: so many sentences, no commas, JSON only, and the like.

In the manner of IFEval (arXiv 2311.07911), with rules, topics and wording of our own, drawn with a seed. An item asks
for something simple about a topic under one or two rules. The rules are the item's gold answers, as JSON, so that a
file of items can hold them too.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from prefdelta.core.config import Config
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.records import Item, Sample
from prefdelta.evaluation.repetition import repetition
from prefdelta.evaluation.scoring import Score, answer_text, scorer

TOPICS = (
    "how bread is baked",
    "why the sky is blue",
    "what a library is for",
    "how a bicycle stays upright",
    "why people sleep",
    "how rain forms",
    "what makes a good friend",
    "how to look after a cat",
    "why the seasons change",
    "how a letter travels by post",
    "what a computer does",
    "how to plant a tree",
    "why exercise is healthy",
    "how cheese is made",
    "what a museum shows",
    "how birds fly",
    "why water freezes",
    "how to save money",
    "what a teacher does",
    "how a bridge is built",
)
"""What the items are about."""

ASKING = ("Explain {}.", "Tell me {}.", "Describe to a child {}.", "I would like to know {}.")

_WORDS = ("simple", "water", "people", "time", "important", "small", "world", "often", "because", "example")
_ENDINGS = ("That is all.", "I hope this helps.", "The end.")
_KEYS = (("title", "text"), ("question", "answer"), ("topic", "summary"))

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """Something an answer must do.

    Attributes:
        draw: settings of the rule, drawn at random.
        told: settings -> the instruction.
        holds: (settings, answer) -> whether the answer follows it.
        alone: it says what the whole answer is like, and goes with no other rule.
    """

    draw: Callable[[random.Random], Spec]
    told: Callable[[Spec], str]
    holds: Callable[[Spec, str], bool]
    alone: bool = False


RULES: Mapping[str, Rule] = {
    "sentences": Rule(
        lambda draw: {"count": draw.randint(1, 4)},
        lambda spec: f"Answer in exactly {_number(spec['count'], 'sentence')}.",
        lambda spec, answer: len(sentences(answer)) == spec["count"],
    ),
    "at-most-words": Rule(
        lambda draw: {"count": draw.choice((15, 25, 40))},
        lambda spec: f"Use at most {spec['count']} words.",
        lambda spec, answer: 0 < len(answer.split()) <= spec["count"],
    ),
    "include": Rule(
        lambda draw: {"word": draw.choice(_WORDS)},
        lambda spec: f'Use the word "{spec["word"]}" in your answer.',
        lambda spec, answer: re.search(rf"\b{re.escape(spec['word'])}\b", answer, re.IGNORECASE) is not None,
    ),
    "no-commas": Rule(
        lambda draw: {},
        lambda spec: "Do not use any commas.",
        lambda spec, answer: answer != "" and "," not in answer,
    ),
    "lower-case": Rule(
        lambda draw: {},
        lambda spec: "Write in lower case letters only, without any capital letter.",
        lambda spec, answer: any(letter.isalpha() for letter in answer) and answer == answer.lower(),
    ),
    "ends-with": Rule(
        lambda draw: {"text": draw.choice(_ENDINGS)},
        lambda spec: f'End your answer with exactly these words: "{spec["text"]}"',
        lambda spec, answer: answer.rstrip().rstrip("\"'").endswith(spec["text"]),
    ),
    "bullets": Rule(
        lambda draw: {"count": draw.randint(2, 5)},
        lambda spec: f'Answer with exactly {spec["count"]} bullet points and nothing else; begin each with "- ".',
        lambda spec, answer: _bullets(answer) == spec["count"],
        alone=True,
    ),
    "json": Rule(
        lambda draw: {"keys": list(draw.choice(_KEYS))},
        lambda spec: 'Answer with JSON only: an object with the keys "{}" and "{}".'.format(*spec["keys"]),
        lambda spec, answer: _json_keys(answer) == set(spec["keys"]),
        alone=True,
    ),
}
"""Name -> rule."""

_CLASH = {"lower-case", "ends-with"}  # endings begin with a capital letter


class InstructionOptions(Config):
    """``count`` items drawn with ``seed``; every item has one rule, and each second one two."""

    count: int = Field(default=400, gt=0, le=100_000)
    seed: int = 0


def instructions(options: InstructionOptions) -> list[Item]:
    """The items: topic, way of asking and rules drawn with the seed; the same on every machine."""
    return [_item(random.Random(f"{options.seed} {place}"), options.seed, place) for place in range(options.count)]


def _item(draw: random.Random, seed: int, place: int) -> Item:
    first = list(RULES)[place % len(RULES)]  # in turn, so that every rule is met equally often
    names = [first]
    if place // len(RULES) % 2 and not RULES[first].alone:
        others = [name for name, rule in RULES.items() if not rule.alone and {name, first} not in ({first}, _CLASH)]
        names.append(draw.choice(others))
    specs = [{"rule": name, **RULES[name].draw(draw)} for name in names]
    asked = [draw.choice(ASKING).format(draw.choice(TOPICS)), *(RULES[spec["rule"]].told(spec) for spec in specs)]
    answers = tuple(json.dumps(spec, sort_keys=True) for spec in specs)
    messages = ({"role": "user", "content": " ".join(asked)},)
    return Item(f"instructions-{seed}-{place:05d}", "instructions", messages, answers)


@scorer("instructions")
def follows(sample: Sample, answers: Sequence[str]) -> Score:
    """1 if the answer follows all rules, which are its gold answers as JSON: ``{"rule": "sentences", "count": 2}``.

    An answer that was cut off follows none: what would have come is not known. ``extra`` holds the share of the rules
    that are followed (``followed``) and how much the answer repeats itself (:func:`repetition`).

    Raises:
        PrefdeltaError: a gold answer is no rule.
    """
    answer = answer_text(sample).strip()
    held = [sample.finish != "length" and _holds(rule, answer) for rule in answers]
    share = sum(held) / len(held) if held else 0.0
    parsed = None if not answer else "followed" if all(held) else "broken"
    return Score(float(all(held) and bool(held)), parsed, {"followed": share, "repetition": repetition(answer)})


def _holds(text: str, answer: str) -> bool:
    try:
        spec = json.loads(text)
        rule = RULES[spec["rule"]]
    except (ValueError, TypeError, KeyError):
        raise PrefdeltaError(
            f"the gold answer {text[:80]!r} is no rule of the scorer 'instructions'; write "
            f'{{"rule": NAME, ...}}, {did_you_mean("", RULES)}'
        ) from None
    try:
        return rule.holds(spec, answer)
    except KeyError as error:
        raise PrefdeltaError(f"the rule {text[:80]!r} of the scorer 'instructions' lacks {error}.") from None
    except (TypeError, AttributeError) as error:
        raise PrefdeltaError(f"the rule {text[:80]!r} of the scorer 'instructions' cannot be used: {error}.") from None


def sentences(text: str) -> list[str]:
    """The sentences of a text: what ends with a full stop, question or exclamation mark before a space or the end."""
    return [part for part in re.split(r"(?<=[.!?])[\"')\]]*\s+", text.strip()) if any(map(str.isalnum, part))]


def _bullets(text: str) -> int | None:
    """How many bullet points a text consists of; ``None`` if it holds other lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return len(lines) if all(line.startswith("- ") for line in lines) else None


def _json_keys(text: str) -> set[str] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return set(found) if isinstance(found, dict) else None


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def plain_prompts(topics: Sequence[str]) -> list[Item]:
    """Every topic asked about in every way, without rules and without gold answers."""
    return [
        Item(f"plain-{place:04d}", "plain", ({"role": "user", "content": form.format(topic)},))
        for place, (topic, form) in enumerate(itertools.product(topics, ASKING))
    ]
