"""How far an adapter moves a language model from its base, on texts that the base wrote: KL by token, exact."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from prefdelta.adapters import Adapter, LoraAdapter
from prefdelta.adapters.applied import applied
from prefdelta.core.models import LoadedModel
from prefdelta.training.data import Row, collate
from prefdelta.training.head import Head, divergences
from prefdelta.training.logprobs import counted_states
from prefdelta.training.reference import batches_of


def divergence_from_base(
    loaded: LoadedModel, rows: Sequence[Row], adapter: Path | LoraAdapter, scale: float = 1.0
) -> Tensor:
    """KL(π₀ ‖ π) in nats at every token of the first responses that a model wrote itself, ``(tokens,)`` in fp32.

    π₀ is the base, π the base with ``scale`` times the adapter. On answers sampled from π₀ the mean is the divergence a
    token of the two models. The sum over the vocabulary is exact, and the logits are made in chunks.

    Args:
        loaded: the base.
        rows: prompts with responses; on the tokens that were read, not written, nothing is measured.
        adapter: the update, or its folder.
        scale: λ.

    Raises:
        PrefdeltaError: the adapter does not fit the base.
    """
    opened = Adapter.open(adapter) if isinstance(adapter, Path) else adapter
    found = []
    with torch.no_grad():
        for indices in batches_of([len(row.prompt) + len(row.responses[0].ids) for row in rows]):
            batch = collate([rows[index] for index in indices], positions=(0,))
            ids, own = batch["input_ids"].to(loaded.model.device), batch["own"].to(loaded.model.device)
            head, states = counted_states(loaded.model, ids, own)
            head = _apart(head, loaded, opened)
            with applied(loaded, opened, scale) as changed:
                other, moved = counted_states(changed.model, ids, own)
                found.append(divergences(head, other, states, moved).cpu())
    return torch.cat(found)


def _apart(head: Head, loaded: LoadedModel, adapter: LoraAdapter) -> Head:
    """The base's head; a copy of it where the adapter changes the head itself."""
    names = {name for name, module in loaded.model.named_modules() if module is head.module}
    return replace(head, module=copy.deepcopy(head.module)) if names & set(adapter.modules) else head
