"""The batches of a task, in an order that a seed decides, from any step on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from prefdelta.core.errors import PrefdeltaError

Batch = Any  # whatever the task's objective understands


class Rows:
    """Rows of anything that has a length and gives a row by its number: a list, or a set of ``datasets``.

    Args:
        rows: the rows.
        collate: makes a batch of a list of rows.
        batch_size: rows in a step; the last step of each pass over the rows may have fewer.
        micro_batch_size: rows that go through the model at once, if not all of a step's; it bounds memory.

    Raises:
        PrefdeltaError: there are no rows.
    """

    def __init__(
        self,
        rows: Sequence[Any],
        collate: Callable[[list[Any]], Batch],
        *,
        batch_size: int = 16,
        micro_batch_size: int | None = None,
    ) -> None:
        if not len(rows):
            raise PrefdeltaError("a task has no data to learn from.")
        self._rows = rows
        self._collate = collate
        self._batch_size = batch_size
        self._micro = micro_batch_size or batch_size

    def stream(self, seed: int, start: int = 0) -> Iterator[list[Batch]]:
        """Steps without end, pass after pass over the rows, each in a new order that the seed decides.

        They begin with number ``start``; each is a list of micro-batches.
        """
        per_pass = -(-len(self._rows) // self._batch_size)
        generator = torch.Generator().manual_seed(seed)
        number = 0
        while True:
            order = torch.randperm(len(self._rows), generator=generator).tolist()
            for place in range(per_pass):
                if number >= start:
                    yield list(self._batches(order[place * self._batch_size : (place + 1) * self._batch_size]))
                number += 1

    def once(self) -> Iterator[Batch]:
        """Every row once, in its own order."""
        return self._batches(range(len(self._rows)))

    def _batches(self, numbers: Sequence[int]) -> Iterator[Batch]:
        for begin in range(0, len(numbers), self._micro):
            yield self._collate([self._rows[number] for number in numbers[begin : begin + self._micro]])
