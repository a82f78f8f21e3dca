"""Two models' answers to the same questions become preference pairs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Filters
from prefdelta.records import Item, Pair, Sample

_TAG = re.compile(r"</?(?:search|answer)>")


@dataclass(frozen=True)
class PairCounts:
    """What became of the items.

    ``missing``: one side has no answer. ``identical``: both sides say the same and end the same way, so nothing is
    preferred. ``format``: the chosen answer fails the format filter. An item is counted at the first that applies.
    """

    items: int
    missing: int
    identical: int
    format: int
    pairs: int


def make_pairs(
    items: Sequence[Item], chosen: Sequence[Sample], rejected: Sequence[Sample], filters: Filters
) -> tuple[list[Pair], PairCounts]:
    """Pair the answers to each item, in the order of the items: ``chosen``'s is preferred over ``rejected``'s.

    Who is preferred goes by which model answered, not by which answer is right (PDA section 4.1).

    Args:
        items: the questions.
        chosen: answers of the weak model, at most one an item.
        rejected: answers of the weaker model, at most one an item.
        filters: which pairs are dropped beside identical ones.

    Raises:
        PrefdeltaError: a side answers an item twice, or no pair is left; the message has the counts.
    """
    ours, theirs = _by_item(chosen), _by_item(rejected)
    pairs: list[Pair] = []
    dropped = {"missing": 0, "identical": 0, "format": 0}
    for item in items:
        good, bad = ours.get(item.id), theirs.get(item.id)
        if good is None or bad is None:
            dropped["missing"] += 1
        elif (good.spans, good.finish) == (bad.spans, bad.finish):
            dropped["identical"] += 1
        elif not has_format(good, filters.format):
            dropped["format"] += 1
        else:
            pairs.append(Pair(item.id, item.task, item.messages, good, bad))
    counts = PairCounts(items=len(items), pairs=len(pairs), **dropped)
    if not pairs:
        raise PrefdeltaError(
            f"no pair is left of {counts.items} items: {counts.missing} without an answer on both sides, "
            f"{counts.identical} with identical answers, {counts.format} whose chosen answer fails the format filter "
            f"({filters.format}); look at the answers, or change filters.format."
        )
    return pairs, counts


def has_format(sample: Sample, rule: str | None) -> bool:
    """Whether an answer keeps a format rule; ``None`` asks for nothing.

    ``finished``: the model ended its turn. ``answer-tags``: it did, and what it wrote is any number of closed
    ``<search>`` s, then one ``<answer>...</answer>``, and nothing after.
    """
    if rule is None:
        return True
    if sample.finish != "stop":
        return False
    if rule == "finished":
        return True
    text = sample.own_text.rpartition("</think>")[2].rstrip() if sample.thinking else sample.own_text.rstrip()
    tags = _TAG.findall(text)
    searches, answer = tags[:-2], tags[-2:]
    return (
        text.endswith("</answer>")
        and answer == ["<answer>", "</answer>"]
        and searches == ["<search>", "</search>"] * (len(searches) // 2)
    )


def shuffle_labels(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """A control: each pair is reversed with probability one half. What is left to learn is not a preference."""
    flips = np.random.default_rng(seed).random(len(pairs)) < 0.5
    return [_reversed(pair) if flip else pair for pair, flip in zip(pairs, flips, strict=True)]


def reverse_labels(pairs: Sequence[Pair]) -> list[Pair]:
    """A control: in every pair the weaker model's answer is the chosen one."""
    return [_reversed(pair) for pair in pairs]


def to_trl(pair: Pair) -> Mapping[str, Any]:
    """A pair as TRL's conversational preference row.

    TRL has no notion of text that the model read: search results become part of the answer there.
    """
    return {
        "prompt": [dict(message) for message in pair.prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen.text}],
        "rejected": [{"role": "assistant", "content": pair.rejected.text}],
        "chat_template_kwargs": {"enable_thinking": pair.chosen.thinking},
    }


def _reversed(pair: Pair) -> Pair:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def _by_item(samples: Sequence[Sample]) -> dict[str, Sample]:
    found = {sample.item: sample for sample in samples}
    if len(found) < len(samples):
        raise PrefdeltaError(f"{len(samples) - len(found)} answers are to an item that is answered already; keep one.")
    return found
