"""A judge: a model that is asked about answers. Its replies are kept, so that nothing is asked or paid for twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from prefdelta.core.records import Message, digest
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.generation.completion import Completion, Reply
from prefdelta.generation.openai_client import ChatClient
from prefdelta.recipe import Server

Arrived = Callable[[int, Reply], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Ask:
    """One thing asked of a judge. ``likeliest`` is how many of the likeliest first tokens to tell, with log-probs."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    likeliest: int = 0


class Judge(Protocol):
    """Whoever answers."""

    @property
    def name(self) -> str:
        """What it is called in results; kept replies are found again under this name."""
        ...

    def ask(self, asks: Sequence[Ask], arrived: Arrived) -> list[Reply]:
        """Answer all, calling ``arrived`` with place and reply as soon as one is there."""
        ...

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields of a request that it does not take, and what was done instead."""
        ...


class RemoteJudge:
    """A judge behind an OpenAI-compatible URL."""

    def __init__(self, server: Server) -> None:
        self._client = ChatClient(server)
        self.name = server.model

    def ask(self, asks: Sequence[Ask], arrived: Arrived) -> list[Reply]:
        """Send all requests, several at a time."""
        return self._client.ask([_body(ask) for ask in asks], arrived)

    @property
    def fields(self) -> Mapping[str, str]:
        """What the server turned out not to take."""
        return self._client.fields.changes


def ask_all(judge: Judge, asks: Sequence[Ask], log: ResumableRows, progress: Progress | None = None) -> list[Reply]:
    """The judge's replies, in the order asked; equal ones are asked once, and kept ones not again.

    Completions are on disk in ``log`` as soon as they arrive. Refusals are not kept: the next run asks again.
    """
    keys = [digest({"judge": judge.name, "ask": ask}) for ask in asks]
    replies: dict[str, Reply] = {key: _restored(log.found[key]) for key in keys if key in log.found}
    todo = {key: ask for key, ask in zip(keys, asks, strict=True) if key not in replies}
    names = list(todo)

    def arrived(place: int, reply: Reply) -> None:
        replies[names[place]] = reply
        if isinstance(reply, Completion):
            log.add([(names[place], asdict(reply))])
        if progress is not None:
            progress(len(replies), len(set(keys)))

    if todo:
        judge.ask(list(todo.values()), arrived)
        if judge.fields:
            log.add([(_fields_key(judge), dict(judge.fields))])
    return [replies[key] for key in keys]


def changed_fields(judge: Judge, log: ResumableRows) -> Mapping[str, str]:
    """The fields that a judge whose replies were kept did not take, and what was done instead."""
    found: Mapping[str, str] = log.found.get(_fields_key(judge), {})
    return found


def _fields_key(judge: Judge) -> str:
    return f"fields of {judge.name}"  # replies of several judges may be kept


def _body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [dict(message) for message in ask.messages],
        "max_tokens": ask.max_tokens,
        "temperature": ask.temperature,
    }
    if ask.likeliest:
        body |= {"logprobs": True, "top_logprobs": ask.likeliest}
    return body


def _restored(kept: Mapping[str, Any]) -> Completion:
    return Completion(**{**kept, "logprobs": tuple(kept["logprobs"])})
