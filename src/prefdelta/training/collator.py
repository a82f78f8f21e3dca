"""From token rows to padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from prefdelta.training.data import Row


class Batch(TypedDict, total=False):
    """Sequences of ``n`` rows with ``k`` responses each, stacked: all first responses, then all second ones, ...

    ``input_ids``, ``own`` and ``prompt`` are ``(k n, length)``; ``own`` marks the tokens that the model wrote,
    ``prompt`` those of the prompt (but the first, which nothing predicts). ``reference`` is ``(k, n)``.
    """

    input_ids: Tensor
    own: Tensor
    prompt: Tensor
    reference: Tensor


def collate(rows: Sequence[Row], *, positions: Sequence[int]) -> Batch:
    """Stack the responses at some positions of some rows, padded on the right with token 0.

    No attention mask is made: a causal model never looks ahead, so what stands to the right of a sequence cannot
    change it, and neither ``own`` nor ``prompt`` ever marks padding.

    >>> from prefdelta.training.data import Response
    >>> row = Row((7, 8), (Response((5, 6, 9), (1, 0, 1)), Response((4,), (1,))))
    >>> batch = collate([row], positions=(0, 1))
    >>> batch["input_ids"]
    tensor([[7, 8, 5, 6, 9],
            [7, 8, 4, 0, 0]])
    >>> batch["own"].int()
    tensor([[0, 0, 1, 0, 1],
            [0, 0, 1, 0, 0]], dtype=torch.int32)
    >>> batch["prompt"].int()
    tensor([[0, 1, 0, 0, 0],
            [0, 1, 0, 0, 0]], dtype=torch.int32)
    """
    sequences = [(row.prompt, row.responses[position]) for position in positions for row in rows]
    width = max(len(prompt) + len(response.ids) for prompt, response in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    own = torch.zeros(len(sequences), width, dtype=torch.bool)
    marked = torch.zeros(len(sequences), width, dtype=torch.bool)
    for index, (prompt, response) in enumerate(sequences):
        start, end = len(prompt), len(prompt) + len(response.ids)
        input_ids[index, :end] = torch.tensor(prompt + response.ids)
        own[index, start:end] = torch.tensor(response.own, dtype=torch.bool)
        marked[index, 1:start] = True
    return Batch(input_ids=input_ids, own=own, prompt=marked)
