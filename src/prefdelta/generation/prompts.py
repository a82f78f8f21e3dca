"""Prompts and benchmark questions, loaded from every kind of source as items with the messages that a model answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prefdelta import micro
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.records import Item, Message, read_rows
from prefdelta.generation.datasets import alpaca_eval, gsm8k, mmlu_pro
from prefdelta.generation.datasets import huggingface as hub
from prefdelta.generation.datasets.layout import question_layout
from prefdelta.recipe import Prompts, Questions

_MICRO = "micro:"
_QUESTION = "{question}"
_PARTS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


def load_questions(questions: Questions, count: int | None = None) -> list[Item]:
    """The items of a source's split, in the source's order, dressed with system prompt, worked examples and template.

    A source that is one file has no splits of its own. Without ``split`` it is taken whole; with one, its items fall
    into train (60 %), validation (20 %) and test (20 %) by a hash of their ids. Elsewhere ``split`` is train if it is
    left out.

    Args:
        questions: where they are and how they are asked.
        count: only the first so many; embedded questions are made to order and need it.

    Raises:
        PrefdeltaError: the source cannot be read, has no such split or column, or lacks the question placeholder.
    """
    if _QUESTION not in questions.template:
        raise PrefdeltaError(f"the template {questions.template!r} has no place for the question; write {_QUESTION}.")
    asked, limit = count, questions.max_characters
    while True:
        dressed = [_dressed(item, questions) for item in _bare(questions, asked)]
        found = [item for item in dressed if limit is None or _characters(item) <= limit]
        if asked is None or count is None or len(found) >= count or not questions.source.startswith(_MICRO):
            return found[:count]
        asked *= 2  # embedded questions are made to order: more for those that are too long


def draw_prompts(prompts: Prompts) -> list[Item]:
    """``prompts.count`` items of a source, drawn without replacement.

    The draw goes by a hash of seed and item id, so that it does not depend on the source's order and a larger draw
    holds the smaller one. Embedded questions are random already: seed 0 takes the first ``count``, seed 1 the next.

    Raises:
        PrefdeltaError: as :func:`load_questions`; or the source has fewer items, or two items with one id.
    """
    if prompts.source.startswith(_MICRO):
        return load_questions(prompts, (prompts.seed + 1) * prompts.count)[-prompts.count :]
    items = load_questions(prompts)
    if len(items) < prompts.count:
        raise PrefdeltaError(
            f"{prompts.source} has {len(items)} questions here, fewer than the {prompts.count} asked for; lower "
            "prompts.count."
        )
    by_id = {item.id: item for item in items}
    if len(by_id) < len(items):
        raise PrefdeltaError(f"{len(items) - len(by_id)} questions of {prompts.source} repeat an id; ids must differ.")
    return sorted(items, key=lambda item: (_hash(f"{prompts.seed}\n{item.id}"), item.id))[: prompts.count]


def _bare(questions: Questions, count: int | None) -> list[Item]:
    source = questions.source
    if source.startswith(_MICRO):
        if count is None:
            raise PrefdeltaError(f"{source} makes questions to order; say how many.")
        return micro.items(source.removeprefix(_MICRO), split=questions.split or "train", count=count)
    layout = questions.format or question_layout(source)
    if layout == "huggingface":
        items, split_already = hub.load(questions)
    elif layout == "mmlu-pro":
        items, split_already = [mmlu_pro.item(entry) for entry in mmlu_pro.load(Path(source))], False
    elif layout == "gsm8k-solutions":
        items, split_already = gsm8k.items(Path(source)), False
    elif layout == "alpaca-eval":
        items, split_already = alpaca_eval.items(Path(source)), False
    else:
        items, split_already = read_rows(expanded(source), Item), False
    return list(items) if split_already else _part(items, questions)


def _part(items: Sequence[Item], questions: Questions) -> list[Item]:
    if questions.split is None:
        return list(items)
    if questions.split not in _PARTS:
        raise PrefdeltaError(
            f"{questions.source} is one file, which is divided into {', '.join(_PARTS)}; it has no split "
            f"{questions.split!r}."
        )
    low, high = _PARTS[questions.split]
    return [item for item in items if low <= _hash(f"split\n{item.id}") / 2**64 < high]


def _characters(item: Item) -> int:
    return sum(len(message["content"]) for message in item.messages)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _dressed(item: Item, questions: Questions) -> Item:
    """A system prompt of the recipe takes the place of the item's own; examples come next, then the question."""
    system = [message for message in item.messages if message["role"] == "system"]
    spoken = [message for message in item.messages if message["role"] != "system"]
    if not spoken:
        raise PrefdeltaError(f"{questions.source}: the item {item.id!r} asks nothing; it needs a user message.")
    *earlier, last = spoken
    if questions.system is not None:
        system = [{"role": "system", "content": questions.system}]
    asked = {**last, "content": questions.template.replace(_QUESTION, last["content"])}
    return replace(item, messages=(*system, *questions.examples, *earlier, asked))


def undressed(messages: Sequence[Message], questions: Questions | None) -> str:
    """What is left of a dressed prompt without system prompt, worked examples and template: the question itself."""
    spoken = [message["content"] for message in messages if message["role"] != "system"]
    if questions is None:
        return "\n".join(spoken)
    worked = [message["content"] for message in questions.examples]
    if spoken[: len(worked)] == worked:
        spoken = spoken[len(worked) :]
    before, _, after = questions.template.partition(_QUESTION)
    *earlier, last = spoken
    return "\n".join([*earlier, last.removeprefix(before).removesuffix(after)])
