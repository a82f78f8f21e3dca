r"""What merges are chosen by: labels, self-agreement without labels, or the loss on preference pairs.

Each is measured of the base model with one adapter on it, by item, so that any two adapters can be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefdelta.adapters import LoraAdapter
from prefdelta.agent import Environment
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Item, Record, digest
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.pair_margins import PairMargins, pair_loss
from prefdelta.evaluation.statistics import Array
from prefdelta.merging.tuning.agreement import agreement
from prefdelta.recipe import By, Named, Sampling
from prefdelta.training.data import Row

UNITS: Mapping[By, float] = {"labels": 1.0, "agreement": 1.0, "pairs": 0.0}
"""The largest difference one item can show, see :func:`prefdelta.evaluation.statistics.paired_difference`."""

Answers = list[list[list[str | None]]]
"""Of each of two draws, per benchmark, what the scorer found in the answers."""


class Measured(NamedTuple):
    """A score, larger is better.

    Attributes:
        score: the mean over benchmarks of the mean over ``by_item``.
        by_item: per benchmark, ``(1, items)``.
        unparsed: share of the answers in which the scorer found none; ``None`` where nothing was answered.
        truncated: share of the answers that were cut off; ``None`` likewise.
        answers: where those of two models are compared; else ``None``.
    """

    score: float
    by_item: list[Array]
    unparsed: float | None
    truncated: float | None = None
    answers: Answers | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON holds it, without losing a digit."""
        entry = {**self._asdict(), "by_item": [task[0].tolist() for task in self.by_item]}
        return {key: value for key, value in entry.items() if key != "answers" or value is not None}

    @staticmethod
    def read(entry: Mapping[str, Any]) -> Measured:
        """The inverse of :meth:`plain`."""
        return Measured(**{**entry, "by_item": [np.array([task]) for task in entry["by_item"]]})


def labelled(draws: Sequence[Sequence[Record]], tasks: Sequence[str]) -> Measured:
    """The mean score of one or more answers to each item, in [0, 1]; the same items in each draw."""
    by_draw = [[[record.score for record in _of_task(draw, task)] for task in tasks] for draw in draws]
    by_item = [np.mean(scores, axis=0)[None] for scores in zip(*by_draw, strict=True)]
    return _measured(float(np.mean([task.mean() for task in by_item])), by_item, draws)


def informative(draws: Sequence[Sequence[Record]], questions: Mapping[str, Sequence[str]]) -> Measured:
    """The mean information over benchmarks, of two answers to each item.

    Args:
        draws: two, each with the records of the same items in the same order.
        questions: by benchmark, what was asked: items with one question are not compared with one another.
    """
    found = [
        agreement(*([record.parsed for record in _of_task(draw, task)] for draw in draws), questions=asked)
        for task, asked in questions.items()
    ]
    score = sum(task.information for task in found) / len(found)
    return _measured(score, [task.by_item[None] for task in found], draws)


def _of_task(records: Sequence[Record], task: str) -> list[Record]:
    return [record for record in records if record.task == task]


def _measured(score: float, by_item: list[Array], draws: Sequence[Sequence[Record]]) -> Measured:
    records = [record for draw in draws for record in draw]
    unparsed = float(np.mean([record.unparsed for record in records]))
    truncated = float(np.mean([record.truncated for record in records]))
    return Measured(score, by_item, unparsed, truncated)


class Labels:
    """The score of one sampled answer to each item, against its gold answers.

    Args:
        evaluator: holds the loaded base model.
        items: by benchmark, at least two of each.
        scorers: the scorer of each benchmark.
        sampling: how answers are drawn.
        search: what the model may search, and how.
        seed: of the random numbers, the same for every adapter.

    Attributes:
        unit: the largest difference one item can show, see :func:`prefdelta.evaluation.statistics.paired_difference`.
        cost: what one measurement takes: answers, or sequences read in forward passes.
    """

    unit = UNITS["labels"]
    draws = 1

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str | Named],
        sampling: Sampling,
        search: Environment | None = None,
        seed: int = 0,
    ) -> None:
        self.cost = self.draws * sum(map(len, items.values()))
        self._evaluator = evaluator
        self._items = items
        self._setting = (items, scorers, sampling, search)
        self._seed = seed

    def __call__(self, adapter: LoraAdapter | None) -> Measured:
        """The mean score in [0, 1]."""
        return labelled([self._answers(adapter, self._seed)], list(self._items))

    def _answers(self, adapter: LoraAdapter | None, seed: int) -> list[Record]:
        return self._evaluator.evaluate(adapter, 1.0, *self._setting, seed=seed)


class Information(Labels):
    """Information from two sampled answers to each item, which needs no gold answers.

    The arguments are those of :class:`Labels`; the two answers have the seeds ``2 seed`` and ``2 seed + 1``. See
    :func:`prefdelta.merging.tuning.agreement.agreement`.
    """

    draws = 2

    def __call__(self, adapter: LoraAdapter | None) -> Measured:
        """The mean information over benchmarks."""
        draws = [self._answers(adapter, seed) for seed in draw_seeds(self._seed)]
        answers = [[[record.parsed for record in _of_task(draw, task)] for task in self._items] for draw in draws]
        return informative(draws, asked(self._items))._replace(answers=answers)

    def shared(self, one: Answers, other: Answers) -> list[Array]:
        """The information that the answers of two models share, per benchmark ``(1, items)``.

        An answer of one model is compared with one of the other as two of one model are, and never under the same seed:
        equal random numbers make answers alike.
        """
        questions = asked(self._items).values()
        found = [
            [agreement(*both, questions=task).by_item for *both, task in zip(*draws, questions, strict=True)]
            for draws in ((one[0], other[1]), (one[1], other[0]))
        ]
        return [np.mean(both, axis=0)[None] for both in zip(*found, strict=True)]


def draw_seeds(seed: int) -> tuple[int, int]:
    """The seeds of the two answers to each item."""
    return 2 * seed, 2 * seed + 1


def asked(items: Mapping[str, Sequence[Item]]) -> dict[str, list[str]]:
    """What was asked, by benchmark, as :func:`informative` compares it."""
    return {task: [digest(item.messages) for item in entries] for task, entries in items.items()}


class PairLoss:
    r"""Minus the mean loss on preference pairs, which needs forward passes only.

        score = −mean log(1 + exp(−β m))

    with m the margin of :mod:`prefdelta.evaluation.pair_margins`. The base itself scores −ln 2.

    Args:
        loaded: the base model.
        rows: token rows of chosen and rejected responses.
        beta: β.

    Source: DPO (arXiv 2305.18290), equation 7, evaluated and not trained on.
    """

    unit = UNITS["pairs"]

    def __init__(self, loaded: LoadedModel, rows: Sequence[Row], beta: float) -> None:
        self.cost = 2 * len(rows)
        self._margins = PairMargins(loaded, rows)
        self._beta = beta

    def __call__(self, adapter: Path | LoraAdapter | None, scale: float = 1.0) -> Measured:
        """Minus the loss, at most 0."""
        by_item = -pair_loss(self._margins(adapter, scale), self._beta).numpy()
        return Measured(float(by_item.mean()), [by_item[None]], None)


Objective = Labels | PairLoss
"""Measures the base with an adapter on it, or the base alone."""
