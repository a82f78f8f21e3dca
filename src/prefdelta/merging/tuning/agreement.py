r"""Self-agreement of sampled answers ("information"): how good a merge is, from prompts without labels.

Every question is answered twice. *Within* is the share of items whose two answers agree, *across* the chance that
answers to two different questions agree, and

    information = within − across.

It is large when answers depend on the question, and falls with noise, with degenerate text and with collapse to one
answer. An answer that the scorer could not parse agrees with nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array


@dataclass(frozen=True)
class Agreement:
    """How far the answers of one model to one benchmark agree; see :func:`agreement`.

    Attributes:
        within: share of items whose two answers agree.
        across: chance that answers to two different questions agree.
        unparsed: share of all answers in which the scorer found none.
        by_item: ``(items,)``, values whose mean is the information and whose spread is its error. Those of two models
            on the same items are paired: the interval of their mean difference is that of the difference of
            information.
    """

    within: float
    across: float
    unparsed: float
    by_item: Array

    @property
    def information(self) -> float:
        """``within − across``, between −1 and 1."""
        return self.within - self.across


def agreement(
    first: Sequence[str | None], second: Sequence[str | None], *, questions: Sequence[Hashable] | None = None
) -> Agreement:
    r"""Agreement within and across questions, of two answers aᵢ, bᵢ to each of n items.

        within = 1/n Σᵢ wᵢ,  wᵢ = [aᵢ = bᵢ]
        across = 1/n Σᵢ cᵢ,  cᵢ = mean over x ∈ {aᵢ, bᵢ} and over all answers y to *other* questions of [x = y]

    With different questions, across is the unbiased estimate of Σ_a p(a)², p the distribution of all parsed answers
    (with the missing mass of the unparsed ones); the plain square of the frequencies would count each answer's
    agreement with itself. Every item takes part in its own cᵢ and in all others', so its share in the information is

        by_item_i = wᵢ − 2 cᵢ + across        (mean over i: within − across)

    the first-order projection of a U-statistic, with which intervals are as wide as they should be.

    Args:
        first: the parsed answer to every item, ``None`` where there is none.
        second: another sampled answer to every item.
        questions: what was asked, by item; items with one question are never compared *across*. Left out, all
            differ.

    Raises:
        PrefdeltaError: there are fewer than two different questions.

    Source: across is Simpson's index in its unbiased form (Simpson, Nature 163, 1949); the projection is Hoeffding's
    (Ann. Math. Stat. 19, 1948).

    >>> agreement(["1", "2", "3"], ["1", "2", "3"]).information
    1.0
    >>> agreement(["1", "1", "1"], ["1", "1", "1"]).information
    0.0
    """
    asked: Sequence[Hashable] = range(len(first)) if questions is None else questions
    if len(set(asked)) < 2:
        raise PrefdeltaError("agreement takes at least two different questions.")
    answers = list(zip(first, second, strict=True))
    total, answered = Counter[str](), Counter[Hashable]()
    own: dict[Hashable, Counter[str]] = {}
    for question, both in zip(asked, answers, strict=True):
        parsed = [answer for answer in both if answer is not None]
        total.update(parsed)
        own.setdefault(question, Counter()).update(parsed)
        answered[question] += 2
    within = np.array([float(one is not None and one == other) for one, other in answers])
    shared = np.array(
        [
            sum(total[answer] - own[question][answer] for answer in both if answer is not None)
            / (2 * (2 * len(answers) - answered[question]))
            for question, both in zip(asked, answers, strict=True)
        ]
    )
    across = float(shared.mean())
    missing = sum(answer is None for both in answers for answer in both)
    return Agreement(
        within=float(within.mean()),
        across=across,
        unparsed=missing / (2 * len(answers)),
        by_item=within - 2 * shared + across,
    )
