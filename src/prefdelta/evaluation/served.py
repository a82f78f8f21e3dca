"""Answers from a server that holds a base model and adapters side by side, each under a name of its own.

``vllm serve BASE --enable-lora --lora-modules a=A b=B`` is one: requests for the model ``a`` are answered by the base
with the adapter ``A``, all on one engine.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefdelta.adapter import MemoryAdapter
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.backends import SamplerFor
from prefdelta.openai_client import ChatClient, Completion
from prefdelta.recipe import Server
from prefdelta.records import Item
from prefdelta.sampling.backends import endpoint_of, server_sampler

_PROBES = 8


class ServedBackend:
    """A server. A variant is the name of an adapter that it serves; ``None`` is the base, under ``server.model``."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @contextmanager
    def variant(
        self, adapter: Path | MemoryAdapter | str | None, scale: float, probes: Sequence[Item]
    ) -> Iterator[SamplerFor]:
        """See :class:`~prefdelta.evaluation.backends.Backend`.

        Raises:
            PrefdeltaError: the adapter is no name, is to be scaled, or answers ``probes`` exactly as the base does.
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
        """Compares the likeliest first tokens, with their log-probabilities, on a few questions."""
        ours, base = _first_tokens(server, probes), _first_tokens(self._server, probes)
        if not any(base):
            warnings.warn(
                f"{server.url} gives no log-probabilities; whether {server.model!r} has an effect is not checked.",
                stacklevel=2,
            )
        elif ours == base:
            raise PrefdeltaError(
                f"{server.url} answers {len(probes)} questions for the adapter {server.model!r} with exactly the "
                "base's probabilities; it is not applied. Check --lora-modules and --max-lora-rank."
            )


def _first_tokens(server: Server, probes: Sequence[Item]) -> list[tuple[tuple[str, float], ...]]:
    body = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": 5}
    replies = ChatClient(endpoint_of(server)).ask([{**body, "messages": list(item.messages)} for item in probes])
    found = []
    for reply in replies:
        if not isinstance(reply, Completion):
            raise PrefdeltaError(f"{server.url} does not answer for {server.model!r}: {reply.reason}.")
        found.append(tuple(sorted(reply.logprobs[0].items())) if reply.logprobs else ())
    return found
