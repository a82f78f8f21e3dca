"""Who gives the answers in an evaluation: a base model in memory, with adapters put on it one after another."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from prefdelta.adapters import LoraAdapter
from prefdelta.adapters.applied import applied, is_empty
from prefdelta.agent import Environment
from prefdelta.core.chat import prompt_ids
from prefdelta.core.errors import PrefdeltaError, PrefdeltaWarning
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Item
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import Sampler
from prefdelta.recipe import Sampling

SamplerFor = Callable[[Sampling, Environment | None], Sampler]

_PROBES = 4


class Backend(Protocol):
    """Gives answers of a base model and of its variants."""

    @property
    def batched(self) -> bool:
        """Whether it computes the requests that it is given at once in batches, whose members round alike."""
        ...

    def variant(
        self, adapter: Path | LoraAdapter | str | None, scale: float, probes: Sequence[Item]
    ) -> AbstractContextManager[SamplerFor]:
        """Samplers of the base with ``scale`` times the adapter, for the length of a ``with`` block.

        Raises:
            PrefdeltaError: the adapter does not fit, or does not change how the base reads ``probes``.
        """
        ...


class LocalBackend:
    """A base model in memory."""

    batched = True

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @contextmanager
    def variant(
        self, adapter: Path | LoraAdapter | str | None, scale: float, probes: Sequence[Item]
    ) -> Iterator[SamplerFor]:
        """See :class:`Backend`; the base is left bit for bit as it was."""
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
