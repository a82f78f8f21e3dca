"""A real chat completion server that does not take every field, and refuses in the words of those that are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serving import Handler, serving

Refuses = Callable[[dict[str, Any]], dict[str, Any] | None]


@contextmanager
def strict_server(refuses: Refuses, status: int = 400) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers ``[[A>B]]`` unless ``refuses`` gives the body of a refusal; its URL and what it got."""
    bodies: list[dict[str, Any]] = []

    class Strict(Handler):
        def do_POST(self) -> None:
            body = self.posted()
            bodies.append(body)
            refused = refuses(body)
            good = {"choices": [{"message": {"content": "[[A>B]]"}, "finish_reason": "stop"}]}
            self.send(status if refused else 200, json.dumps(refused or good).encode())

    with serving(Strict) as address:
        yield f"{address}/v1", bodies


def reasoning_model(body: dict[str, Any]) -> dict[str, Any] | None:
    """As OpenAI's o series and gpt-5 answer."""
    if "max_tokens" in body:
        told = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return {"error": {"message": told, "param": "max_tokens", "code": "unsupported_parameter"}}
    if body.get("temperature", 1) != 1:
        told = "Unsupported value: 'temperature' does not support 0.0. Only the default (1) is supported."
        return {"error": {"message": told, "param": "temperature", "code": "unsupported_value"}}
    return unknown_argument(body)


def unknown_argument(body: dict[str, Any]) -> dict[str, Any] | None:
    known = {"model", "messages", "max_completion_tokens", "temperature"}
    for name in body.keys() - known:
        return {"error": {"message": f"Unrecognized request argument supplied: {name}", "param": None}}
    return None
