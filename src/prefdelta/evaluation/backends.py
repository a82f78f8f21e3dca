"""Who gives the answers in an evaluation: a base with adapters, in memory, in an engine or behind a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from prefdelta.agent import Environment
from prefdelta.core.records import Item
from prefdelta.generation.request import Sampler
from prefdelta.recipe import Sampling

if TYPE_CHECKING:
    from prefdelta.adapters import LoraAdapter

SamplerFor = Callable[[Sampling, Environment | None], Sampler]


@runtime_checkable
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
