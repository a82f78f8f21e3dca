"""Which rows share an optimiser step, and which of them a micro-batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import torch

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import Training

Step = list[list[int]]  # micro-batches of row indices
Shared = dict[int, list[int]]  # a micro-batch of several trainings: training -> row indices

_TRAINING = itemgetter(1)

_FAINT = 1e-4  # steps · learning rate, the way that Adam can move a weight; PDA's trainings come to 6e-4


def plan_steps(
    lengths: Sequence[int],
    *,
    batch_size: int,
    micro_batch_size: int,
    epochs: float,
    seed: int,
    rank: int = 0,
    processes: int = 1,
) -> list[Step]:
    """Plan a whole training, as micro-batches of row indices; with several processes, the share of one of them.

    Each epoch is a fresh permutation, cut into batches; the last batch of an epoch may be smaller. Rows of one batch
    are sorted by length before they are cut into micro-batches, which saves padding. Since the sorting never moves a
    row to another batch, the gradient of a step does not depend on it, nor on ``micro_batch_size``, nor on the number
    of processes, to which the sorted rows are dealt in turn (one may be left without any).

    Args:
        lengths: tokens of every row.
        batch_size: rows per optimiser step.
        micro_batch_size: rows per forward pass.
        epochs: passes over the rows; a fraction ends the last permutation early.
        seed: decides the permutations.
        rank: whose share to plan.
        processes: how many share a step.

    >>> plan_steps([5, 3, 9, 4, 7], batch_size=4, micro_batch_size=2, epochs=1, seed=0)
    [[[4, 0], [3, 1]], [[2]]]
    """
    generator = torch.Generator().manual_seed(seed)
    remaining = max(1, round(epochs * len(lengths)))
    steps: list[Step] = []
    while remaining > 0:
        order = torch.randperm(len(lengths), generator=generator).tolist()[:remaining]
        remaining -= len(order)
        for start in range(0, len(order), batch_size):
            batch = sorted(order[start : start + batch_size], key=lambda row: (-lengths[row], row))
            batch = batch[rank::processes]
            steps.append([batch[cut : cut + micro_batch_size] for cut in range(0, len(batch), micro_batch_size)])
    return steps


def shared_micro_batches(
    rows: Mapping[int, Sequence[int]], lengths: Sequence[Sequence[int]], size: int
) -> list[Shared]:
    """Cut the steps of several trainings into micro-batches that they share.

    As within one training, the rows of all are sorted by length, and no gradient depends on how they are cut.

    Args:
        rows: training → the rows of its step.
        lengths: by training, tokens of every row.
        size: rows per forward pass, of all trainings together.

    Returns:
        Micro-batches: training → its rows in it, for the trainings that have any.

    >>> shared_micro_batches({0: [0, 1], 1: [2]}, [[5, 9], [0, 0, 7]], 2)
    [{0: [1], 1: [2]}, {0: [0]}]
    """
    order = sorted((-lengths[training][row], training, row) for training in rows for row in rows[training])
    return [
        {training: [row for _, _, row in group] for training, group in groupby(sorted(cut, key=_TRAINING), _TRAINING)}
        for cut in (order[start : start + size] for start in range(0, len(order), size))
    ]


def count_steps(rows: int, training: Training) -> int:
    """Optimiser steps of a training on ``rows`` rows: the length of :func:`plan_steps`.

    >>> count_steps(10, Training(batch_size=4, epochs=2.5))
    8
    """
    whole, rest = divmod(max(1, round(training.epochs * rows)), rows)
    return whole * -(-rows // training.batch_size) + -(-rest // training.batch_size)


def warmup_steps(steps: int, training: Training) -> int:
    """The steps of the linear warm-up; the first of them has learning rate 0."""
    return -(-steps * round(training.warmup_ratio * 10**6) // 10**6)


def learning_rate_share(step: int, steps: int, warmup: int) -> float:
    """The share of the learning rate at a step, from 0: the schedule ``cosine`` of ``transformers``.

    Unlike :func:`prefdelta.training.loop.warmup_cosine` it begins at 0.

    >>> [round(learning_rate_share(step, 6, 2), 3) for step in range(6)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def only_warms_up(rows: int, training: Training) -> bool:
    """Whether the only step is the first one of the warm-up, whose learning rate is 0."""
    return count_steps(rows, training) == 1 and warmup_steps(1, training) == 1


def check_learns(rows: int, training: Training) -> None:
    """Refuse a training that cannot change anything.

    Args:
        rows: how many rows it has; more than there will be do no harm.
        training: its settings.

    Raises:
        PrefdeltaError: its only step is the first one of the warm-up, whose learning rate is 0.
    """
    if only_warms_up(rows, training):
        raise PrefdeltaError(
            f"the training has 1 optimiser step ({rows} rows, batch_size {training.batch_size}, epochs "
            f"{training.epochs:g}), and it is the first one of the warm-up (warmup_ratio {training.warmup_ratio:g}), "
            "with learning rate 0: it would change nothing. Set warmup_ratio=0, a smaller batch_size or more epochs."
        )


def faint(steps: int, training: Training) -> str | None:
    """A sentence where a training is too short to be felt, from its settings alone.

    >>> faint(58, Training()) is None
    True
    """
    if steps * training.learning_rate >= _FAINT:
        return None
    return (
        f"{steps} step{'s' * (steps != 1)} at learning rate {training.learning_rate:g} barely change the student; "
        f"raise learning_rate or epochs, lower batch_size ({training.batch_size}), or give more prompts."
    )
