"""Guards of a chosen scale: how far the merge moves the base from what it says itself, and how much nobody can read.

A scale that is chosen without labels may be wrong in a way that its own signal does not see. These two cost little and
need no labels either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefdelta.adapters import LoraAdapter
from prefdelta.agent import Environment
from prefdelta.core.models import LoadedModel, context_of
from prefdelta.core.records import Demonstration, Item
from prefdelta.evaluation.results import Guard
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.recipe import Sampling
from prefdelta.training.data import Row, make_rows
from prefdelta.training.divergence import divergence_from_base

KL_LIMIT = 0.5
"""Nats a token. Of six merges of the embedded family the best λ lies at 0.1 to 0.2, and all beyond 0.5 were broken."""

UNPARSED_LIMIT = 0.1
"""More than the base's own share by so much."""

GUARDED = 64
"""Prompts that the base answers."""

_TOKENS = 256  # of a turn; the tokens that come first tell as much


def own_rows(
    loaded: LoadedModel, items: Sequence[Item], sampling: Sampling, search: Environment | None, seed: int
) -> tuple[Row, ...]:
    """What the base answers to the first :data:`GUARDED` prompts, as token rows; an empty answer is left out.

    The prompts are asked as they are; at most 256 tokens a turn are written.

    Raises:
        PrefdeltaError: no answer has a token.
    """
    prompts = list(items[:GUARDED])
    shorter = sampling.model_copy(update={"max_new_tokens": min(sampling.max_new_tokens, _TOKENS)})
    answers = TransformersSampler(loaded, shorter, search).sample(requests_for(prompts, seed))
    said = [
        Demonstration(item.id, item.task, item.messages, answer) for item, answer in zip(prompts, answers, strict=True)
    ]
    length = context_of(loaded.model.config)
    return make_rows(said, loaded.tokenizer, thinking=loaded.thinking, max_length=length).rows


def divergence(loaded: LoadedModel, rows: Sequence[Row], adapter: Path | LoraAdapter, scale: float) -> float:
    """Mean KL from the base in nats a token, on the base's own answers; see :func:`divergence_from_base`."""
    return float(divergence_from_base(loaded, rows, adapter, scale).double().mean())


def guard_of(kl: float, unparsed: float | None, base_unparsed: float | None) -> Guard:
    """The guards of a choice, with one sentence for each limit that is passed.

    Args:
        kl: see :func:`divergence`.
        unparsed: share of the merge's answers in which no answer was found; ``None`` where nothing was answered.
        base_unparsed: the same of the base's.
    """
    found = []
    if kl > KL_LIMIT:
        found.append(
            f"the merge is {kl:.2g} nats a token away from the base on the base's own answers, more than {KL_LIMIT:g}: "
            "it may have lost what the items that chose it do not ask for; evaluate it on other tasks."
        )
    if unparsed is not None and unparsed > (base_unparsed or 0.0) + UNPARSED_LIMIT:
        found.append(
            f"in {100 * unparsed:.0f} % of the merge's answers no answer was found, and in "
            f"{100 * (base_unparsed or 0.0):.0f} % of the base's; look at a dozen of them before you use it."
        )
    return Guard(
        kl=kl,
        kl_limit=KL_LIMIT,
        unparsed=None if unparsed is None else 100 * unparsed,
        unparsed_base=None if base_unparsed is None else 100 * base_unparsed,
        warnings=found,
    )
