"""Answers of a model that is in memory, with a search environment where there is one."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdelta.agent import Environment
from prefdelta.core.chat import decode, end_of_turn_ids, prompts_ids, span_ids, stop_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel, context_of
from prefdelta.core.records import Sample, Span
from prefdelta.generation.decoding import Randomness, decode_batch
from prefdelta.generation.dialogue import Dialogue, react, turn_limit
from prefdelta.generation.request import GROUP_BATCHES, Request
from prefdelta.generation.turn_end import TurnEnd
from prefdelta.recipe import Sampling


@dataclass
class _Conversation(Dialogue):
    """An answer in the making. ``ids`` is all that the model has read and written."""

    ids: list[int]


class TransformersSampler:
    """Samples a model that is in memory.

    Requests are sorted by length and cut into fixed batches, so the same requests give the same bytes. The random
    numbers of an answer come from its own seed; other batch-mates change it only through rounding in the model.

    Args:
        loaded: the model and its tokenizer.
        sampling: how to draw; ``max_new_tokens`` bounds one turn. Its ``seed`` is not looked at.
        environment: what the model may search, and how; ``None`` if it may not. After ``max_turns`` turns that the
            environment reacted to, the model may write once more; a search there is not executed, and the answer
            counts as cut off.
    """

    def __init__(self, loaded: LoadedModel, sampling: Sampling, environment: Environment | None = None) -> None:
        self._loaded = loaded
        self._sampling = sampling
        self.together = GROUP_BATCHES * sampling.batch_size
        self._environment = environment
        search = environment.settings if environment is not None else None
        self._searches = search.max_turns if search is not None else 0
        self._turn = turn_limit(sampling, environment)
        stops = stop_ids(loaded.tokenizer, loaded.model.generation_config)
        closings = environment.protocol.closings if environment else ()
        self._over = TurnEnd(loaded.tokenizer, stops, closings, end_of_turn_ids(loaded.tokenizer))
        self._randomness = Randomness()
        self._room = context_of(loaded.model.config)
        # With a window the model reads only the end of a conversation that outgrows it.
        self._window = max(1, min(self._room - self._turn, search.window)) if search and search.window else None

    def describe(self) -> Mapping[str, Any]:
        """Everything but the requests that the answers depend on."""
        return {
            "model": str(self._loaded.model.config._name_or_path),
            "thinking": self._loaded.thinking,
            "search": self._environment.settings.model_dump(mode="json") if self._environment else None,
            "sampling": self._sampling.model_dump(exclude={"seed", "n"}),
        }

    def stream(self, requests: Sequence[Request], done: Container[int] = ()) -> Iterator[list[tuple[int, Sample]]]:
        """Answer the requests whose places are not in ``done``, four batches at a time; see :class:`Sampler`.

        Batches are cut from all requests, so that a resumed run computes the same ones. A group of which only a part
        is done is computed again as a whole.
        """
        for start in range(0, len(requests), self.together):
            group = requests[start : start + self.together]
            places = range(start, start + len(group))
            if not all(place in done for place in places):
                yield list(zip(places, self.sample(group), strict=True))

    def sample(self, requests: Sequence[Request]) -> list[Sample]:
        """Answer all requests, in their order.

        Raises:
            PrefdeltaError: the tokenizer has no chat template, or a question leaves no room in the model's context.
        """
        conversations = self._opened(requests)
        for turn in range(self._searches + 1):
            active = [conversation for conversation in conversations if conversation.finish is None]
            for batch in self._batches(active):
                self._write(batch, turn)
            if going_on := [conversation for conversation in active if conversation.finish is None]:
                self._react(going_on)
        return [conversation.sample(self._loaded.thinking) for conversation in conversations]

    def _opened(self, requests: Sequence[Request]) -> list[_Conversation]:
        messages = [request.item.messages for request in requests]
        prompts = prompts_ids(self._loaded.tokenizer, messages, self._loaded.thinking)
        for request, ids in zip(requests, prompts, strict=True):
            if len(ids) >= self._room:
                raise PrefdeltaError(
                    f"the question {request.item.id!r} has {len(ids)} tokens, and the model reads at most "
                    f"{self._room}; leave it out."
                )
        return [_Conversation(request=request, ids=ids) for request, ids in zip(requests, prompts, strict=True)]

    def _batches(self, conversations: Sequence[_Conversation]) -> Iterator[list[_Conversation]]:
        ordered = sorted(conversations, key=lambda conversation: len(conversation.ids))  # stable
        size = self._sampling.batch_size
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    def _write(self, batch: Sequence[_Conversation], turn: int) -> None:
        """Let the model take its turn; a conversation stays unfinished if the environment is to react to it."""
        read = [entry.ids[-self._window :] if self._window else entry.ids for entry in batch]
        budgets = [min(self._turn, self._room - len(ids)) for ids in read]
        uniforms = [
            self._randomness.uniforms(entry.request.seed, turn, budget)
            for entry, budget in zip(batch, budgets, strict=True)
        ]
        turns = decode_batch(self._loaded.model, read, uniforms, budgets, self._over, self._sampling)
        for entry, written in zip(batch, turns, strict=True):
            entry.tokens += len(written)
            entry.ended = self._over.stopped(written)
            said = self._over.said(written)
            text = decode(self._loaded.tokenizer, said)
            entry.ids += said
            if said:
                entry.spans.append(Span(text))
            entry.hear(text, self._environment, last=turn == self._searches)

    def _react(self, going_on: Sequence[_Conversation]) -> None:
        react(going_on, self._environment, self._loaded.tokenizer)
        for entry in going_on:
            entry.ids += span_ids(self._loaded.tokenizer, entry.spans[-1])
            if len(entry.ids) >= self._room and self._window is None:
                entry.finish = "length"
