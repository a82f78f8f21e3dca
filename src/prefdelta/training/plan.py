"""Which rows share an optimiser step, and which of them a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Step = list[list[int]]  # micro-batches of row indices


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
