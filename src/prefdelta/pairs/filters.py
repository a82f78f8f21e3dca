"""Which pairs are dropped, in a fixed order, each counted under the first filter that drops it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from prefdelta.core.chat import completion_ids, prompt_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair
from prefdelta.core.thoughts import stray_thought
from prefdelta.evaluation.answer_format import has_format
from prefdelta.generation.prompts import undressed
from prefdelta.pairs.lengths import balanced, within_ratio
from prefdelta.pairs.similar import NgramIndex, near_duplicates
from prefdelta.recipe import Filters, Questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Evaluated = Mapping[str, Sequence[str]]
"""Name of an evaluation set -> its questions."""

_Keep = Callable[[Sequence[Pair]], list[bool]]


def filter_pairs(
    pairs: Sequence[Pair],
    filters: Filters,
    *,
    questions: Questions | None = None,
    evaluated: Evaluated,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """Apply all filters that are asked for; the balance of lengths comes last, on what is left.

    Before them go pairs with a thought in an answer that was given with thinking off: it would be learned as an answer.

    Returns:
        The pairs that are kept, in their order, and by reason those that each filter dropped.

    Raises:
        PrefdeltaError: ``filters.identical_within`` is asked for without a tokenizer, or ``filters.decontaminate``
            without an evaluation set.
    """
    kept, dropped = list(pairs), dict[str, list[Pair]]()
    for reason, keep in _wanted(filters, questions, evaluated, tokenizer):
        flags = keep(kept)
        dropped[reason] = [pair for pair, flag in zip(kept, flags, strict=True) if not flag]
        kept = [pair for pair, flag in zip(kept, flags, strict=True) if flag]
    if not dropped["thought"]:
        del dropped["thought"]
    return kept, dropped


def _wanted(
    filters: Filters, questions: Questions | None, evaluated: Evaluated, tokenizer: PreTrainedTokenizerBase | None
) -> list[tuple[str, _Keep]]:
    wanted: list[tuple[str, _Keep]] = [
        ("thought", lambda pairs: [not any(map(stray_thought, pair.responses)) for pair in pairs])
    ]
    if filters.format is not None:
        wanted.append(("format", lambda pairs: [has_format(pair.chosen, filters.format) for pair in pairs]))
    if filters.identical_within is not None:
        if tokenizer is None:
            raise PrefdeltaError("filters.identical_within counts tokens of the student; name the student.")
        wanted.append(("identical_within", _differ_within(tokenizer, filters.identical_within)))
    limit = filters.max_length_ratio
    if limit is not None:
        wanted.append(("length_ratio", lambda pairs: [within_ratio(pair, limit) for pair in pairs]))
    if filters.duplicates is not None:
        wanted.append(("duplicate", _first_of_alike(filters, questions)))
    if filters.decontaminate is not None:
        if not evaluated:
            raise PrefdeltaError("filters.decontaminate compares with evaluation sets; none is given.")
        for name, texts in evaluated.items():
            index = NgramIndex(texts, filters.decontaminate)
            wanted.append((f"contaminated: {name}", _unlike(index, questions)))
    if filters.balance_lengths:
        wanted.append(("length_balance", balanced))
    return wanted


def _differ_within(tokenizer: PreTrainedTokenizerBase, limit: int) -> _Keep:
    """Pairs whose first ``limit`` tokens, prompt included, differ between chosen and rejected."""

    def differs(pair: Pair) -> bool:
        room = limit - len(prompt_ids(tokenizer, pair.prompt, pair.chosen.thinking))
        chosen, rejected = (
            [part[:room] for part in completion_ids(tokenizer, sample)] for sample in (pair.chosen, pair.rejected)
        )
        return room > 0 and chosen != rejected

    return lambda pairs: [differs(pair) for pair in pairs]


def _first_of_alike(filters: Filters, questions: Questions | None) -> _Keep:
    """Pairs whose question is the first of its kind; the several pairs of one question stay together."""

    def keep(pairs: Sequence[Pair]) -> list[bool]:
        asked: dict[str, str] = {}
        for pair in pairs:
            asked.setdefault(pair.chosen.item, undressed(pair.prompt, questions))
        texts = list(asked.values())
        if filters.duplicates == "exact":
            plain = [" ".join(text.split()).casefold() for text in texts]
            first = {text: place for place, text in reversed(list(enumerate(plain)))}
            again = [first[text] != place for place, text in enumerate(plain)]
        else:
            again = near_duplicates(texts, filters.near_similarity)
        repeated = {item for item, flag in zip(asked, again, strict=True) if flag}
        seen: set[tuple[str, str, str]] = set()
        flags = []
        for pair in pairs:
            row = (pair.chosen.item, pair.chosen.text, pair.rejected.text)
            flags.append(pair.chosen.item not in repeated and row not in seen)
            seen.add(row)
        return flags

    return keep


def _unlike(index: NgramIndex, questions: Questions | None) -> _Keep:
    return lambda pairs: [not index.shares(undressed(pair.prompt, questions)) for pair in pairs]
