"""A local chat completion server that answers by rule, and misbehaves where a question asks it to."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serving import Handler, serving

HANG = 3.0  # seconds


@dataclass
class ChatServer:
    """What a test sees of the server: its address, the requests it got, and tries per question."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tries: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    down: bool = False


def answer(body: dict[str, Any]) -> tuple[str, str]:
    """Text and finish reason: an echo, or a search conversation about where Mia was born."""
    asked = body["messages"][0]["content"]
    last = body["messages"][-1]
    if "stop" not in body:
        return f"{asked}|{body.get('seed')}", "length" if asked.startswith("long") else "stop"
    if "<information>" in last["content"]:
        text = "<answer>oslo</answer>"
    elif asked.startswith("plain"):
        return "no search needed", "stop"
    else:
        text = "let me see <search>mia born</search>"
    # Like vLLM with include_stop_str_in_output; like OpenAI without.
    closing = next((tag for tag in body["stop"] if text.endswith(tag)), None)
    if closing and not body.get("include_stop_str_in_output"):
        text = text.removesuffix(closing)
    return text, "stop"


class _Handler(Handler):
    state: ChatServer

    def do_POST(self) -> None:
        body = self.posted()
        asked = body["messages"][0]["content"]
        seed = body.get("seed")  # judges are asked without one
        word = asked.split()[0]
        self.state.bodies.append(body)
        self.state.tries[asked, seed] += 1
        first = self.state.tries[asked, seed] == 1
        text, finish = answer(body)
        good = json.dumps(
            {
                "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
                "usage": {"completion_tokens": 7},
            }
        ).encode()
        if self.state.down or word == "NEVER" or (word == "CRASH" and first):
            self.send(500, b"{}")
        elif word == "TOOLONG":
            self.send(400, b'{"error": {"message": "the prompt is too long"}}')
        elif word == "FILTER":
            self.send(400, b'{"error": {"code": "content_filter", "message": "max_tokens of it were filtered"}}')
        elif word == "DECLINE":
            self.send(200, b'{"choices": [{"message": {"content": null, "refusal": "I will not."}}]}')
        elif word == "BUSY" and first:
            self.send(429, b"{}", {"Retry-After": "0.2"})
        elif word == "RESET" and first:
            self.close_connection = True
        elif word == "TORN" and first:
            self.send(200, good[: len(good) // 2])
        elif word == "SHORT" and first:
            self.send(200, good[:-9], {"Content-Length": str(len(good))})
            self.close_connection = True
        elif word == "HANG" and first:
            time.sleep(HANG)
            self.close_connection = True
        else:
            self.send(200, good)


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A server on a free port, in a thread."""
    state = ChatServer()
    with serving(type("Stated", (_Handler,), {"state": state})) as address:
        state.url = f"{address}/v1"
        yield state
