"""Answers from vLLM's offline engine, which takes one adapter after another beside the base that it holds."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefdelta.adapters import Adapter, LoraAdapter
from prefdelta.adapters.applied import is_empty
from prefdelta.adapters.writer import SERVABLE_RANKS, servable_rank, write_adapter
from prefdelta.core.errors import PrefdeltaError, PrefdeltaWarning
from prefdelta.core.records import Item
from prefdelta.evaluation.backends import SamplerFor
from prefdelta.evaluation.served import no_effect
from prefdelta.generation.backends import vllm_sampler
from prefdelta.generation.completion import Completion
from prefdelta.generation.server import Writer
from prefdelta.generation.vllm import VllmProcess
from prefdelta.recipe import ModelRef

_PROBES = 8
_TOKENS = 8


class VllmBackend:
    """A base model in vLLM's offline engine.

    Args:
        ref: the base.
        start: gives the engine, for adapters up to a rank; called once for each variant.
        folder: where a variant's adapter lies, with all scaling in its factors, as long as it is needed.
    """

    batched = False  # it makes up batches of its own, which change from time to time

    def __init__(self, ref: ModelRef, start: Callable[[int], VllmProcess], folder: Path) -> None:
        self._ref = ref
        self._start = start
        self._folder = folder

    @contextmanager
    def variant(
        self, adapter: Path | LoraAdapter | str | None, scale: float, probes: Sequence[Item]
    ) -> Iterator[SamplerFor]:
        """See :class:`~prefdelta.evaluation.backends.Backend`.

        Raises:
            PrefdeltaError: the engine cannot take the adapter, or answers ``probes`` with it as without it.
        """
        if isinstance(adapter, str):
            raise PrefdeltaError(f"{adapter!r} is the name of a served adapter; give the folder of one.")
        if adapter is None or scale == 0:
            yield self._samplers(self._start(SERVABLE_RANKS[0]))
            return
        opened = Adapter.open(adapter) if isinstance(adapter, Path) else adapter
        process = self._start(served_rank(opened))
        shutil.rmtree(self._folder, ignore_errors=True)  # left by a kill
        try:
            updates = ((name, opened.load(name).scaled(scale)) for name in opened.modules)
            write_adapter(self._folder, updates, like=opened.info, rank="servable", names=opened.modules)
            served = process.load(self._folder)
            self._check_effect(process, served, opened, probes[:_PROBES])
            yield self._samplers(served)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _samplers(self, writer: Writer) -> SamplerFor:
        return lambda sampling, search: vllm_sampler(self._ref, writer, sampling, search)

    def _check_effect(self, base: Writer, served: Writer, adapter: LoraAdapter, probes: Sequence[Item]) -> None:
        answers = [self._greedy(writer, probes) for writer in (base, base, served)]
        known = [rows for rows in zip(*answers, strict=True) if all(isinstance(row, Completion) for row in rows)]
        if not known or (told := no_effect(*zip(*known, strict=True))) is None:
            return
        if not is_empty(adapter):
            raise PrefdeltaError(f"vLLM answers with the adapter {adapter.path} as without it ({told}).")
        warnings.warn(
            f"the adapter {adapter.path} is zero everywhere: it leaves the base as it is.",
            PrefdeltaWarning,
            stacklevel=2,
        )

    def _greedy(self, writer: Writer, probes: Sequence[Item]) -> list[object]:
        settings = {"temperature": 0.0, "max_tokens": _TOKENS, "logprobs": 5}
        thinking = {"chat_template_kwargs": {"enable_thinking": self._ref.thinking}}
        bodies = [{**settings, **thinking, "messages": list(item.messages)} for item in probes]
        replies = dict(writer.replies(bodies))
        return [replies[place] for place in range(len(bodies))]


def served_rank(adapter: LoraAdapter) -> int:
    """The rank that an engine must have room for to take an adapter.

    Raises:
        PrefdeltaError: vLLM cannot take it at all.
    """
    if adapter.extra:
        raise PrefdeltaError(
            f"{adapter.path} holds {adapter.extra[0]}, a fully trained module, which vLLM does not put on; evaluate it "
            "with `engine: transformers`."
        )
    rank = max(adapter.load(name).rank for name in adapter.modules)
    if rank > SERVABLE_RANKS[-1]:
        raise PrefdeltaError(
            f"{adapter.path} has rank {rank}, and vLLM takes {SERVABLE_RANKS[-1]} at most; cut it with `prefdelta "
            f"merge --rank {SERVABLE_RANKS[-1]}`, merge fewer adapters, or evaluate it with `engine: transformers`."
        )
    return servable_rank(rank)
