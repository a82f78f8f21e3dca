"""Tasks of causal language models: preference losses on pairs, token entropy, null-space ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prefdelta.adapters import Adapter
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Example
from prefdelta.merging.learned.data import Rows
from prefdelta.merging.learned.nullspace import null_space_ratio
from prefdelta.merging.learned.tasks import Objective, Task
from prefdelta.recipe.learning import LanguageLearning
from prefdelta.training.data import Batch, Row, collate, make_rows, on_device
from prefdelta.training.logprobs import check_head, token_entropies
from prefdelta.training.objectives import OBJECTIVES, Loss, loss_of
from prefdelta.training.objectives.base import PAIR
from prefdelta.training.reference import reference_logprobs
from prefdelta.training.scoring import scores_of

LABEL_FREE = ("entropy", "null-space")
"""The objectives that need no labels; all others are preference losses of ``OBJECTIVES``."""


def check_objective(settings: LanguageLearning) -> None:
    """Check that the objective is one of :data:`LABEL_FREE` or a loss on pairs, and that its options fit.

    Raises:
        PrefdeltaError: it is neither, or has no such option; the message names the nearest.
    """
    name, options = settings.objective.name, settings.objective.options
    if name in LABEL_FREE:
        for key in options:
            hint = did_you_mean(key, type(settings).model_fields)
            raise PrefdeltaError(f"objective {name!r}: unknown option {key!r}; {hint}")
        return
    known = [name for name, objective in OBJECTIVES.items() if objective.responses == PAIR]
    if name not in known:
        hint = did_you_mean(name, [*known, *LABEL_FREE])
        raise PrefdeltaError(f"coefficients are not learned by the objective {name!r}; {hint}")
    loss_of(settings)


class _Scored(NamedTuple):
    """A row with its responses' log-probabilities under the base, ``(responses,)``, where the loss needs them."""

    row: Row
    reference: Tensor | None


def language_task(
    name: str,
    examples: Sequence[Example],
    loaded: LoadedModel,
    settings: LanguageLearning,
    *,
    own: int | None = None,
    adapter: Adapter | None = None,
) -> Task:
    """A task of a causal language model.

    - A preference loss looks at chosen and rejected answers. Its reference, where it has one, is the base without any
      adapter.
    - ``entropy`` is the mean entropy of the model's predictions over the model-written tokens of an answer: the chosen
      one of a pair, the source's of a triple, the only one of a demonstration. Answers that the merged adapters' own
      models gave are what it is meant for.
    - ``null-space`` is the ratio of the task's own adapter on prompt and answer, see :func:`null_space_ratio`.

    Args:
        name: the task's name.
        examples: its data, all of one kind.
        loaded: the base model.
        settings: which objective, and how long rows and batches are.
        own: the position of the task's own adapter, which anchors it.
        adapter: that adapter, for ``null-space``.

    Raises:
        PrefdeltaError: the examples are of the wrong kind or none can be used, or ``null-space`` has no adapter.
    """
    rows = make_rows(examples, loaded.tokenizer, thinking=loaded.thinking, max_length=settings.max_length).rows
    objective_name = settings.objective.name
    first = rows[0].prompt + rows[0].responses[0].ids
    if objective_name != "null-space":  # which needs no logits
        check_head(loaded.model, torch.tensor(first, device=loaded.model.device))
    reference: Tensor | None = None
    objective: Objective
    positions: tuple[int, ...] = (0,)
    if objective_name == "entropy":
        objective = _entropy
    elif objective_name == "null-space":
        if adapter is None:
            raise PrefdeltaError(
                f"task {name!r}: the null-space ratio is that of a task's own adapter; give one file per adapter."
            )
        objective = _null_space(adapter, loaded.model)
    else:
        loss = loss_of(settings)
        objective, positions = _preference(loss), loss.positions(len(rows[0].responses))
        if loss.needs_reference:
            reference = reference_logprobs(loaded.model, rows, cache=None, fingerprint="")
    scored = [
        _Scored(row, None if reference is None else reference[list(positions), index]) for index, row in enumerate(rows)
    ]
    data = Rows(scored, _collate(positions), batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size)
    return Task(name, data, objective, own)


def _collate(positions: Sequence[int]) -> Callable[[list[_Scored]], Batch]:
    def collated(rows: list[_Scored]) -> Batch:
        batch = collate([scored.row for scored in rows], positions=positions)
        references = [scored.reference for scored in rows if scored.reference is not None]
        if references:
            batch["reference"] = torch.stack(references, dim=1)
        return batch

    return collated


def _preference(loss: Loss) -> Objective:
    def values(model: nn.Module, batch: Batch) -> Tensor:
        causal = _causal(model)
        return loss(scores_of(causal, on_device(batch, causal.device), loss, tokens_per_row=1.0)).loss

    return values


def _entropy(model: nn.Module, batch: Batch) -> Tensor:
    causal = _causal(model)
    moved = on_device(batch, causal.device)
    sums = token_entropies(causal, moved["input_ids"], moved["own"]).sum(dim=1)
    return sums / moved["own"].sum(dim=1)


def _null_space(adapter: Adapter, model: nn.Module) -> Objective:
    def run(model: nn.Module, batch: Batch) -> None:
        causal = _causal(model)
        causal.base_model(input_ids=batch["input_ids"].to(causal.device), use_cache=False)

    return null_space_ratio(adapter, model, run=run, counted=lambda batch: batch["own"] | batch["prompt"])


def _causal(model: nn.Module) -> PreTrainedModel:
    assert isinstance(model, PreTrainedModel), "the tasks of this module are those of a loaded language model"
    return model
