"""Answers of a model to questions, with a search environment where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from prefdelta.chat import decode, encode, prompts_ids, stop_ids
from prefdelta.errors import PrefdeltaError
from prefdelta.models import LoadedModel
from prefdelta.pairs.agent import TurnEnd, observation, query
from prefdelta.pairs.decoding import Randomness, decode_batch
from prefdelta.recipe import Sampling
from prefdelta.records import Item, Sample, Span
from prefdelta.retrieval import Bm25Index


@dataclass(frozen=True)
class Request:
    """One answer wanted. ``seed`` (0 or more) decides all of its random numbers, whatever else is in the batch."""

    item: Item
    seed: int


class Sampler(Protocol):
    """A sampling backend."""

    @property
    def shard_size(self) -> int:
        """How many requests to hand over at a time: enough to work well, few enough to lose in a crash."""
        ...

    def sample(self, requests: Sequence[Request]) -> list[Sample]:
        """Answer all requests, in their order."""
        ...


@dataclass
class _Conversation:
    """An answer in the making. ``ids`` is all that the model has read and written."""

    ids: list[int]
    seed: int
    spans: list[Span] = field(default_factory=list)
    tokens: int = 0
    finish: Literal["stop", "length"] | None = None
    query: str = ""


class TransformersSampler:
    """Samples a model that is in memory.

    Requests are sorted by length and cut into fixed batches, so the same requests give the same bytes. The random
    numbers of an answer come from its own seed; other batch-mates change it only through rounding in the model.

    Args:
        loaded: the model and its tokenizer.
        sampling: how to draw; ``max_new_tokens`` bounds one turn. Its ``seed`` is not looked at.
        index: what the model may search; ``None`` if it may not.
        max_turns: the most searches in an answer. After the last result the model may write once more; a search there
            is not executed, and the answer counts as cut off.
    """

    def __init__(self, loaded: LoadedModel, sampling: Sampling, index: Bm25Index | None, max_turns: int) -> None:
        self._loaded = loaded
        self._sampling = sampling
        self._index = index
        self._searches = max_turns if index is not None else 0
        stops = stop_ids(loaded.tokenizer, loaded.model.generation_config)
        self._over = TurnEnd(loaded.tokenizer, stops, searching=index is not None)
        self._randomness = Randomness()
        self._room = int(getattr(loaded.model.config, "max_position_embeddings", 0) or 2**31)

    @property
    def shard_size(self) -> int:
        """Four batches."""
        return 4 * self._sampling.batch_size

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
            searching = [conversation for conversation in active if conversation.finish is None]
            if turn == self._searches:
                for conversation in searching:
                    conversation.finish = "length"
            elif searching:
                self._look_up(searching)
        return [self._closed(request, done) for request, done in zip(requests, conversations, strict=True)]

    def _opened(self, requests: Sequence[Request]) -> list[_Conversation]:
        messages = [request.item.messages for request in requests]
        prompts = prompts_ids(self._loaded.tokenizer, messages, self._loaded.thinking)
        for request, ids in zip(requests, prompts, strict=True):
            if len(ids) >= self._room:
                raise PrefdeltaError(
                    f"the question {request.item.id!r} has {len(ids)} tokens, and the model reads at most "
                    f"{self._room}; leave it out."
                )
        return [_Conversation(ids, request.seed) for request, ids in zip(requests, prompts, strict=True)]

    def _batches(self, conversations: Sequence[_Conversation]) -> Iterator[list[_Conversation]]:
        ordered = sorted(conversations, key=lambda conversation: len(conversation.ids))  # stable
        size = self._sampling.batch_size
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    def _write(self, batch: Sequence[_Conversation], turn: int) -> None:
        """Let the model take its turn; a conversation stays unfinished if it asked for a search."""
        budgets = [min(self._sampling.max_new_tokens, self._room - len(entry.ids)) for entry in batch]
        uniforms = [
            self._randomness.uniforms(entry.seed, turn, budget) for entry, budget in zip(batch, budgets, strict=True)
        ]
        turns = decode_batch(
            self._loaded.model, [entry.ids for entry in batch], uniforms, budgets, self._over, self._sampling
        )
        for entry, written in zip(batch, turns, strict=True):
            entry.tokens += len(written)
            stopped = self._over.stopped(written)
            said = written[:-1] if stopped else written
            text = decode(self._loaded.tokenizer, said)
            entry.ids += said
            if said:
                entry.spans.append(Span(text))
            if stopped:
                entry.finish = "stop"
            elif self._over.searched(written):
                entry.query = query(text)
            else:
                entry.finish = "length"

    def _look_up(self, searching: Sequence[_Conversation]) -> None:
        assert self._index is not None
        results = self._index.search_many([conversation.query for conversation in searching])
        for conversation, found in zip(searching, results, strict=True):
            shown = observation(found, self._index.top_k)
            conversation.ids += encode(self._loaded.tokenizer, shown)
            conversation.spans.append(Span(shown, "environment"))
            if len(conversation.ids) >= self._room:
                conversation.finish = "length"

    def _closed(self, request: Request, done: _Conversation) -> Sample:
        assert done.finish is not None
        return Sample(request.item.id, tuple(done.spans), done.finish, done.tokens, self._loaded.thinking)
