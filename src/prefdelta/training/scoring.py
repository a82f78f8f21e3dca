"""From the batches of a plan to what an objective looks at."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import Dataset

from prefdelta.training.data import Batch, Row, collate
from prefdelta.training.logprobs import CausalLM, token_logprobs
from prefdelta.training.objectives import Loss, Scores
from prefdelta.training.plan import Step


class Steps(Dataset[list[Batch]]):
    """The optimiser steps of a training in order, each as its micro-batches.

    Args:
        rows: all token rows.
        reference: ``(responses of a row, rows)`` reference log-probabilities, where the objective needs them.
        plan: row indices, see :func:`prefdelta.training.plan.plan_steps`.
        positions: which responses of a row are used.
    """

    def __init__(
        self, rows: Sequence[Row], reference: Tensor | None, plan: Sequence[Step], positions: Sequence[int]
    ) -> None:
        self.rows = rows
        self.reference = reference[list(positions)] if reference is not None else None
        self.plan = plan
        self.positions = positions

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> list[Batch]:
        return [self.micro_batch(indices) for indices in self.plan[step]]

    def micro_batch(self, indices: Sequence[int]) -> Batch:
        """Some of the rows, with their reference."""
        batch = collate([self.rows[index] for index in indices], positions=self.positions)
        if self.reference is not None:
            batch["reference"] = self.reference[:, list(indices)]
        return batch


def rows_of(batch: Batch, loss: Loss) -> int:
    """How many rows a micro-batch holds."""
    return len(batch["own"]) // len(loss.names)


def counted_tokens(batch: Batch, loss: Loss) -> Tensor:
    """Which tokens' log-probabilities the objective needs: the model's own, and the first prompt's if asked for."""
    if not loss.needs_prompt:
        return batch["own"]
    rows = rows_of(batch, loss)
    counted = batch["own"].clone()
    counted[:rows] |= batch["prompt"][:rows]
    return counted


def scores_of(model: CausalLM, batch: Batch, loss: Loss, tokens_per_row: float) -> Scores:
    """Run the model on a micro-batch and sum log-probabilities by sequence."""
    logprobs = token_logprobs(model, batch["input_ids"], counted_tokens(batch, loss))
    return scores_from(logprobs, batch, loss, tokens_per_row)


def scores_from(logprobs: Tensor, batch: Batch, loss: Loss, tokens_per_row: float) -> Scores:
    """Sum the log-probabilities of :func:`counted_tokens` by sequence."""
    shape = (len(loss.names), -1)
    return Scores(
        logps=(logprobs * batch["own"]).sum(dim=1).view(shape),
        lengths=batch["own"].sum(dim=1).view(shape),
        reference=batch["reference"] if loss.needs_reference else None,
        prompt_logps=(logprobs * batch["prompt"]).sum(dim=1)[: rows_of(batch, loss)] if loss.needs_prompt else None,
        tokens_per_row=tokens_per_row,
    )
