"""Answers from a server that holds a base model and adapters side by side, each under a name of its own.

``vllm serve BASE --enable-lora --lora-modules a=A b=B`` is one: requests for the model ``a`` are answered by the base
with the adapter ``A``, all on one engine.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prefdelta.core.errors import PrefdeltaError, PrefdeltaWarning
from prefdelta.core.records import Item
from prefdelta.evaluation.backends import SamplerFor
from prefdelta.generation.backends import server_sampler
from prefdelta.generation.completion import Completion
from prefdelta.generation.openai_client import ChatClient
from prefdelta.recipe import Server

if TYPE_CHECKING:
    from prefdelta.adapters import LoraAdapter

_PROBES = 8
_TOKENS = 8
_FAR = 10.0
_LEVEL = 0.001


class ServedBackend:
    """A server. A variant is the name of an adapter that it serves; ``None`` is the base, under ``server.model``."""

    batched = False

    def __init__(self, server: Server) -> None:
        self._server = server

    @contextmanager
    def variant(
        self, adapter: Path | LoraAdapter | str | None, scale: float, probes: Sequence[Item]
    ) -> Iterator[SamplerFor]:
        """See :class:`~prefdelta.evaluation.backends.Backend`.

        Raises:
            PrefdeltaError: the adapter is no name, is to be scaled, or answers ``probes`` as the base does.
        """
        if adapter is not None and not isinstance(adapter, str):
            raise PrefdeltaError(f"a server knows adapters by name; {adapter} is to be loaded there first.")
        if adapter is not None and scale != 1:
            raise PrefdeltaError(
                f"a server applies an adapter as it is; fold λ = {scale:g} into {adapter!r} with "
                "`prefdelta merge --scale`."
            )
        server = self._server if adapter is None else self._server.model_copy(update={"model": adapter})
        if adapter is not None:
            self._check_effect(server, probes[:_PROBES])
        yield lambda sampling, search: server_sampler(server, sampling, search)

    def _check_effect(self, server: Server, probes: Sequence[Item]) -> None:
        """Compares the adapter with the base on a few questions, and the base with itself.

        A server that batches rounds differently from batch to batch, so that the base itself does not give the same
        log-probabilities twice: only what differs more than that is an effect.
        """
        first, second, adapted = _asked(self._server, (self._server.model, self._server.model, server.model), probes)
        if not any(reply.logprobs for reply in first):
            warnings.warn(
                f"{server.url} gives no log-probabilities; whether {server.model!r} has an effect is not checked.",
                PrefdeltaWarning,
                stacklevel=2,
            )
            return
        if (told := no_effect(first, second, adapted)) is not None:
            raise PrefdeltaError(
                f"{server.url} answers {len(probes)} questions for the adapter {server.model!r} with the base's "
                f"log-probabilities ({told}); it is not applied. Check --lora-modules and --max-lora-rank."
            )


def no_effect(first: Sequence[Completion], second: Sequence[Completion], adapted: Sequence[Completion]) -> str | None:
    """What says that an adapter changes nothing, or ``None`` where it does.

    Args:
        first: the base's greedy answers to some questions, with log-probabilities.
        second: the same again: an engine that batches rounds differently from time to time.
        adapted: the answers with the adapter.
    """
    noise = [_distance(*pair) for pair in zip(first, second, strict=True)]
    effect = [_distance(*pair) for pair in zip(first, adapted, strict=True)]
    if _is_larger(effect, noise):
        return None
    return f"largest difference {max(effect):.1g}; of the base from itself {max(noise):.1g}"


def _asked(server: Server, models: Sequence[str], probes: Sequence[Item]) -> list[list[Completion]]:
    """The models' greedy answers to the probes, all asked at once, so that they share batches."""
    body = {"max_tokens": _TOKENS, "temperature": 0.0, "logprobs": True, "top_logprobs": 5}
    bodies = [{**body, "model": model, "messages": list(item.messages)} for item in probes for model in models]
    found: list[list[Completion]] = [[] for _ in models]
    for place, reply in enumerate(ChatClient(server).ask(bodies)):
        if not isinstance(reply, Completion):
            raise PrefdeltaError(f"{server.url} does not answer for {models[place % len(models)]!r}: {reply.reason}.")
        found[place % len(models)].append(reply)
    return found


def _distance(one: Completion, other: Completion) -> float:
    """The mean difference of the log-probs of the likeliest tokens, over all places up to where the texts part."""
    differences: list[float] = []
    for ours, theirs in zip(one.logprobs, other.logprobs, strict=False):
        common = ours.keys() & theirs.keys()
        differences += [0.0 if ours[t] == theirs[t] else abs(ours[t] - theirs[t]) for t in common] or [1.0]
        if next(iter(ours)) != next(iter(theirs)):
            break
    return float(np.mean(differences)) if differences else 0.0


def _is_larger(effect: Sequence[float], noise: Sequence[float]) -> bool:
    """Whether the effect is more than noise: far above all of it somewhere, or a little above it nearly everywhere."""
    from scipy.stats import mannwhitneyu  # here, as it takes half a second to import

    if max(effect) > _FAR * max(noise):
        return True
    return bool(mannwhitneyu(effect, noise, alternative="greater").pvalue < _LEVEL)
