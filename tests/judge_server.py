"""A real HTTP server that speaks the chat completions protocol, and misbehaves when the prompt says so.

A word in the prompt decides what happens to its request (``TOGETHER`` waits for two more). Without one the judge is
honest: it prefers the answer with more occurrences of ``good``.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

from serving import Handler, serving

_ANSWERS = re.compile(r"<answer_[Am]>\n(.*?)\n</answer_[Am]>.*<answer_[BM]>\n(.*?)\n</answer_[BM]>", re.DOTALL)


class JudgeServer:
    """The server's address, and what it was asked: ``requests`` counts by the trouble that the prompt asked for."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.together = threading.Barrier(3)
        self.url = ""


@contextlib.contextmanager
def judge_server() -> Iterator[JudgeServer]:
    """Serve on a free port of this machine for the length of the block."""
    state = JudgeServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Stated", (_Handler,), {"state": state}))
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # clients are killed here
    with serving(server) as address:
        state.url = f"{address}/v1"
        try:
            yield state
        finally:
            state.closing.set()


TROUBLES = (
    "SLOW",
    "DRIP",
    "CRASH",
    "BUSY",
    "GARBAGE",
    "EMPTYBODY",
    "NOCHOICES",
    "NULLTEXT",
    "WRONG",
    "HANGUP",
    "TOOLONG",
    "ONCE",
    "FORBIDDEN",
    "THINKING",
    "CUTOFF",
    "HALFPAIR",
    "TOGETHER",
)


class _Handler(Handler):
    state: JudgeServer

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if not raw:  # the client was killed
            return
        body = json.loads(raw)
        prompt = "\n".join(message["content"] for message in body["messages"])
        trouble = next((word for word in TROUBLES if word in prompt), "")
        with self.state.lock:
            self.state.requests[trouble] += 1
            self.state.bodies.append(body)
            self.state.headers.append(dict(self.headers))
            seen = self.state.requests[trouble]
            self.state.at_once += 1
            self.state.most_at_once = max(self.state.most_at_once, self.state.at_once)
        if trouble == "SLOW":
            self.state.closing.wait(60)
        if trouble == "TOGETHER":
            self.state.together.wait(60)
        with self.state.lock:  # before the answer, after which the client may already send its next request
            self.state.at_once -= 1
        with contextlib.suppress(OSError):  # the client hung up
            self._answer(body, prompt, trouble, seen)

    def _answer(self, body: dict[str, Any], prompt: str, trouble: str, seen: int) -> None:
        if trouble == "DRIP":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not self.state.closing.wait(0.05):  # until the client has had enough
                self.wfile.write(b" ")
                self.wfile.flush()
            return
        if trouble == "HANGUP":
            self.close_connection = True
            self.connection.close()
            return
        if trouble == "CRASH" or (trouble == "ONCE" and seen == 1):
            self.send(500, b"<html>internal error</html>")
        elif trouble == "BUSY":
            self.send(429, b'{"error": "slow down"}', {"Retry-After": "0"})
        elif trouble == "TOOLONG":
            self.send(400, b'{"error": {"message": "maximum context length exceeded"}}')
        elif trouble == "FORBIDDEN":
            self.send(401, b'{"error": {"message": "bad key"}}')
        elif trouble == "GARBAGE":
            self.send(200, b"<html>\xff\xfe a proxy says hello</html>")
        elif trouble == "EMPTYBODY":
            self.send(200, b"")
        elif trouble == "NOCHOICES":
            self.send(200, b'{"choices": []}')
        else:
            self.send(200, json.dumps(self._completion(body, prompt, trouble)).encode())

    def _completion(self, body: dict[str, Any], prompt: str, trouble: str) -> dict[str, Any]:
        found = _ANSWERS.search(prompt)
        first, second = (text.count("good") for text in found.groups()) if found else (0, 0)
        text: str | None = "Both are read. [[A>B]]" if first > second else "[[B>A]]" if second > first else "[[A=B]]"
        if found is None:
            text = f"It is fine. [[{min(10, 1 + prompt.count('good'))}]]"
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if body.get("logprobs"):
            share = 0.5 + 0.4 * (first > second) - 0.4 * (second > first)
            likely = [{"token": name, "logprob": math.log(value)} for name, value in (("m", share), ("M", 1 - share))]
            text = "m" if share >= 0.5 else "M"
            token = {"token": text, "logprob": likely[text == "M"]["logprob"], "top_logprobs": likely}
            choice["logprobs"] = {"content": [token]}
        if trouble == "NULLTEXT":
            text, choice["logprobs"] = None, None
        if trouble == "WRONG":
            text, choice["logprobs"] = "I would rather talk about the weather.", None
        if trouble == "THINKING":
            text = f"<think>surely [[B>>A]] or [[3]]</think>{text}"
        if trouble == "CUTOFF":
            text, choice["finish_reason"] = "Let me begin by restating the", "length"
        if trouble == "HALFPAIR":
            text = f"\ud83d, {text}"
        choice["message"] = {"role": "assistant", "content": text}
        return {"choices": [choice], "usage": {"completion_tokens": len((text or "").split())}}
