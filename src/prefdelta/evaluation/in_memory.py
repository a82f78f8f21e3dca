"""Answers from a base model in memory, with adapters put on it one after another."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from prefdelta.adapters import LoraAdapter
from prefdelta.adapters.applied import applied, is_empty
from prefdelta.core.chat import prompt_ids
from prefdelta.core.errors import PrefdeltaError, PrefdeltaWarning
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Item
from prefdelta.evaluation.backends import SamplerFor
from prefdelta.generation.local import TransformersSampler

_PROBES = 4


class LocalBackend:
    """A base model in memory."""

    batched = True

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @contextmanager
    def variant(
        self, adapter: Path | LoraAdapter | str | None, scale: float, probes: Sequence[Item]
    ) -> Iterator[SamplerFor]:
        """See :class:`~prefdelta.evaluation.backends.Backend`; the base is left bit for bit as it was."""
        if isinstance(adapter, str):
            raise PrefdeltaError(f"{adapter!r} is the name of a served adapter; give the folder of one.")
        changes = adapter is not None and scale != 0
        before = self._logits(self._loaded, probes) if changes else []
        with applied(self._loaded, adapter, scale) as model:
            if adapter is not None and changes:
                _check_effect(before, self._logits(model, probes), adapter)
            yield lambda sampling, search: TransformersSampler(model, sampling, search)

    @torch.inference_mode()
    def _logits(self, loaded: LoadedModel, items: Sequence[Item]) -> list[Tensor]:
        rows = [prompt_ids(loaded.tokenizer, item.messages, loaded.thinking) for item in items[:_PROBES]]
        return [loaded.model(input_ids=torch.tensor([row], device=loaded.model.device)).logits for row in rows]


def _check_effect(before: Sequence[Tensor], after: Sequence[Tensor], adapter: Path | LoraAdapter) -> None:
    """Serving stacks have been seen to ignore an adapter silently; its scores would be the base's."""
    if any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)):
        return
    if not is_empty(adapter):
        raise PrefdeltaError(f"the adapter {adapter} has no effect on this base model's output; it was not applied.")
    warnings.warn(
        f"the adapter {adapter} is zero everywhere: it leaves the base model as it is.", PrefdeltaWarning, stacklevel=2
    )
