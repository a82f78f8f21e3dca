"""Guards of a chosen scale: how far the merge moves the base from what it says itself, how much nobody can read, and
whether it still says what the base says.

A scale that is chosen without labels may be wrong in a way that its own signal does not see. These cost little and need
no labels either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefdelta.adapters import LoraAdapter
from prefdelta.agent import Environment
from prefdelta.core.models import LoadedModel, context_of
from prefdelta.core.records import Demonstration, Item
from prefdelta.evaluation.results import Guard
from prefdelta.evaluation.statistics import Array, Difference, paired_difference
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.merging.tuning.candidate import Candidate
from prefdelta.merging.tuning.objectives import UNITS
from prefdelta.merging.tuning.validation import Validation
from prefdelta.recipe import Sampling
from prefdelta.training.data import Row, make_rows
from prefdelta.training.divergence import divergence_from_base

KL_LIMIT = 0.5
"""Nats a token. Of six merges of the embedded family the best λ lies at 0.1 to 0.2, and all beyond 0.5 were broken."""

UNPARSED_LIMIT = 0.1
"""More than the base's own share by so much."""

SHARED_LIMIT = 0.5
"""Of what a smaller λ shares with the base. Of 69 merges of the embedded family 67 stay above 0.8, also where a part of
the answers is one mistake; the two that make it everywhere have nothing of it left."""

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


@dataclass(frozen=True)
class Shared:
    """Information that a merge's answers share with the base's own, and how it was at a smaller λ.

    A merge that gets better is sure of answers that the base gives too, among others: what they share grows or stays.
    One that repeats a mistake agrees with itself just as well, and no longer with the base.

    Attributes:
        chosen: at the chosen λ.
        most: at the smaller λ where it is largest.
        at: that λ.
        difference: of the two, paired by item.
    """

    chosen: float
    most: float
    at: float
    difference: Difference


def shared_with_base(validation: Validation, chosen: Candidate) -> Shared | None:
    """What the answers of the choice share with the base's; ``None`` where it was not chosen by its answers' agreement.

    Also ``None`` where no smaller λ of the same merge was tried.
    """
    own = validation.shared(chosen)
    if own is None or isinstance(chosen.scale, str):
        return None
    smaller = {
        other.scale: shared
        for other in validation.measured
        if other.at(chosen.scale) == chosen and not isinstance(other.scale, str) and other.scale < chosen.scale
        if (shared := validation.shared(other)) is not None
    }
    if not smaller:
        return None
    at = max(sorted(smaller), key=lambda scale: _mean(smaller[scale]))
    difference = paired_difference(
        [now - then for now, then in zip(own, smaller[at], strict=True)], unit=UNITS["agreement"]
    )
    return Shared(_mean(own), _mean(smaller[at]), at, difference)


def _mean(by_item: Sequence[Array]) -> float:
    return float(np.mean([task.mean() for task in by_item]))


def guard_of(kl: float, unparsed: float | None, base_unparsed: float | None, shared: Shared | None = None) -> Guard:
    """The guards of a choice, with one sentence for each limit that is passed.

    Args:
        kl: see :func:`divergence`.
        unparsed: share of the merge's answers in which no answer was found; ``None`` where nothing was answered.
        base_unparsed: the same of the base's.
        shared: see :func:`shared_with_base`.
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
    if shared is not None and shared.difference.high < 0 and shared.chosen < SHARED_LIMIT * shared.most:
        found.append(
            f"the merge's answers have less in common with the base's than at λ = {shared.at:g} ({shared.chosen:.2f} "
            f"against {shared.most:.2f}): it may agree with itself on a mistake; compare its answers with those at "
            f"λ = {shared.at:g} before you use it."
        )
    return Guard(
        kl=kl,
        kl_limit=KL_LIMIT,
        unparsed=None if unparsed is None else 100 * unparsed,
        unparsed_base=None if base_unparsed is None else 100 * base_unparsed,
        shared=None if shared is None else shared.chosen,
        shared_most=None if shared is None else shared.most,
        shared_most_at=None if shared is None else shared.at,
        warnings=found,
    )
