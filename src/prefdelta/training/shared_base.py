"""One frozen base with several adapters beside it, each for rows of its own of every batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from prefdelta.adapters.applied import row_branches
from prefdelta.core.errors import PrefdeltaError
from prefdelta.training.logprobs import token_logprobs
from prefdelta.training.lora import Factors


class SharedBase:
    """A base, and adapters of one shape that are trained together.

    A batch holds the rows of the first adapter, then those of the second, and so on. The base's products are computed
    once for all rows; each adapter's own products see its rows only, so it gets the gradients of these and no others.

    Args:
        base: the model; it is frozen.
        adapters: the adapters, which have the same modules.

    Raises:
        PrefdeltaError: they adapt the output head, which is applied to single tokens.
    """

    def __init__(self, base: PreTrainedModel, adapters: Sequence[Factors]) -> None:
        self.base = base
        self._branches = [adapter.branches() for adapter in adapters]
        self._rows: list[int] = []
        if head := [name for name in self._branches[0] if base.get_submodule(name) is base.get_output_embeddings()]:
            raise PrefdeltaError(
                f"training.lora.targets names {head[0]!r}, the output head, which cannot be trained together; leave it "
                "out, or set training.together to false."
            )

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """The adapters act on the base for the length of a ``with`` block."""
        updates = {name: [branches[name] for branches in self._branches] for name in self._branches[0]}
        with row_branches(self.base, updates, lambda: self._rows):
            yield

    def logprobs(self, batches: Mapping[int, tuple[Tensor, Tensor]]) -> dict[int, Tensor]:
        """Log-probabilities of tokens under each adapter, from one forward pass.

        A backward pass must come before the next forward pass, as checkpointed layers are computed anew in it.

        Args:
            batches: number of an adapter → token ids ``(rows, length)``, padded on the right, and which of them are
                counted, see :func:`prefdelta.training.logprobs.token_logprobs`; lengths may differ.

        Returns:
            Number of an adapter → log-probabilities ``(rows, length)`` in fp32, 0 where nothing is counted.
        """
        numbers = sorted(batches)
        width = max(ids.shape[1] for ids, _ in batches.values())
        ids, counted = (
            torch.cat([pad(batches[number][part], (0, width - batches[number][part].shape[1])) for number in numbers])
            for part in (0, 1)
        )
        self._rows = [len(batches[number][0]) if number in batches else 0 for number in range(len(self._branches))]
        found = token_logprobs(self.base, ids.to(self.base.device), counted.to(self.base.device))
        parts = found.split([len(batches[number][0]) for number in numbers])
        return {number: part[:, : batches[number][0].shape[1]] for number, part in zip(numbers, parts, strict=True)}
