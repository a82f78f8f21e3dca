"""A local chat completion server that answers by rule, and misbehaves where a question asks it to."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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
            self._send(500, b"{}")
        elif word == "TOOLONG":
            self._send(400, b'{"error": {"message": "the prompt is too long"}}')
        elif word == "FILTER":
            self._send(400, b'{"error": {"code": "content_filter", "message": "max_tokens of it were filtered"}}')
        elif word == "DECLINE":
            self._send(200, b'{"choices": [{"message": {"content": null, "refusal": "I will not."}}]}')
        elif word == "BUSY" and first:
            self._send(429, b"{}", {"Retry-After": "0.2"})
        elif word == "RESET" and first:
            self.close_connection = True
        elif word == "TORN" and first:
            self._send(200, good[: len(good) // 2])
        elif word == "SHORT" and first:
            self._send(200, good[:-9], {"Content-Length": str(len(good))})
            self.close_connection = True
        elif word == "HANG" and first:
            time.sleep(HANG)
            self.close_connection = True
        else:
            self._send(200, good)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests' output is not a log."""


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A server on a free port, in a thread."""
    state = ChatServer()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
