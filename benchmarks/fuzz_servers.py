"""Feed broken and hostile replies to the clients of chat and search servers: no crash, no hang, no key told.

``python benchmarks/fuzz_servers.py --inputs 20000 --seed 0`` serves that many HTTP replies on this machine, each a good
one with one to four mutations of its JSON, bytes, headers or transfer (chunks, compression, length, redirects, drip),
and asks for each by the chat client or the search client. What is allowed: a completion, a refusal, passages, or a
``PrefdeltaError``, within 5 seconds, in one line, without the key. Reply n depends on the seed and n alone, so a
failure is repeated with ``--only n``.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import random
import re
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdelta.agent.retrieval import http as search_client
from prefdelta.core.errors import PrefdeltaError
from prefdelta.generation.completion import Completion, Refusal
from prefdelta.generation.openai_client import ChatClient
from prefdelta.recipe import Server

KEY = "sk-fuzz-0123456789abcdef"
TIME_LIMIT = 5.0
TIMEOUT = 0.5
CHUNK = 12
"""Chat requests in one call: fewer in a row than what makes the client take the server for dead."""
RESULTS = Path(__file__).parent / "results" / "fuzz_servers.md"

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 1e308, float("nan"), float("inf"), "", "null", "\ud83d", "\x00", "\u2028",
    KEY, "[[A>B]]", "<think>", [], {}, [[]], [None], {"error": KEY}, {"message": KEY}, "x" * 5000, "error",
    "content_filter", "length", 10**400, {"a": {"a": {"a": {}}}},
)  # fmt: skip
RAW = (b"", b"{", b"}", b"[" * 50_000, b"null", b"NaN", b"\xff\xfe", b"\xef\xbb\xbf", b"<html>", b"1e999", b"9" * 5000)


def chat_reply(draw: random.Random) -> dict[str, Any]:
    """A good chat completion."""
    token = {"token": "m", "logprob": -0.1, "top_logprobs": [{"token": "m", "logprob": -0.1}]}
    return {
        "id": "x",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"answer {draw.random()}", "reasoning_content": "so"},
                "finish_reason": draw.choice(["stop", "length", "eos_token", None]),
                "logprobs": {"content": [token]},
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5},
    }


def search_reply(draw: random.Random) -> dict[str, Any]:
    """Good passages for one query."""
    passage = {"document": {"id": str(draw.randrange(9)), "contents": "Title\ntext"}, "score": 1.0}
    return {"result": [[passage] * draw.randrange(1, 3)]}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every part of a JSON value."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def mutate_json(value: Any, draw: random.Random) -> None:
    """Replace, remove, or add one part, in place."""
    found = list(places(value))
    if not found:
        return
    *way, last = draw.choice(found)
    for key in way:
        value = value[key]
    kind, strange = draw.randrange(4), copy.deepcopy(draw.choice(STRANGE))  # it may be changed in its turn
    if kind == 0:
        del value[last]
    elif kind == 1 and isinstance(value, dict):
        value[draw.choice(["error", "object", "refusal", "detail", "choices", "result"])] = strange
    else:
        value[last] = strange


def mutate_bytes(body: bytes, draw: random.Random) -> bytes:
    """Cut, flip, insert or replace bytes."""
    at = draw.randrange(len(body) + 1)
    kind = draw.randrange(4)
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + draw.choice(RAW) + body[at:]
    if kind == 2:
        return draw.choice(RAW)
    return body[:at] + bytes([draw.randrange(256)]) + body[at + 1 :]


def reply(number: int, seed: int) -> tuple[bytes, float]:
    """The raw HTTP reply to request ``number``, and the seconds between its pieces (0: all at once)."""
    draw = random.Random(f"{seed}/{number}")
    value: Any = search_reply(draw) if is_search(number) else chat_reply(draw)
    for _ in range(draw.randrange(3)):
        mutate_json(value, draw)
    body = json.dumps(value).encode()
    if draw.random() < 0.3:
        body = mutate_bytes(body, draw)
    status = draw.choice([200] * 12 + [400, 422, 429, 500, 503, 301, 307, 401, 404, 204, 999])
    headers = {"Content-Type": draw.choice(["application/json", "text/html", "application/zip", "x\x00y"][:3])}
    if draw.random() < 0.1:
        headers["Content-Encoding"] = draw.choice(["gzip", "deflate", "br", "gzip, gzip", KEY])
        if draw.random() < 0.7:
            body = gzip.compress(body if draw.random() < 0.9 else bytes(70 << 20))
        body = mutate_bytes(body, draw) if draw.random() < 0.3 else body
    if 300 <= status < 400:
        headers["Location"] = draw.choice(["http://127.0.0.1:9/x", "/x", KEY, "\\\\", "http://["])
    if draw.random() < 0.05:
        headers["Retry-After"] = draw.choice(["0", "-1", "nan", "1e999", "tomorrow", ""])
    framing = draw.randrange(12)
    if framing == 0:
        headers["Transfer-Encoding"] = "chunked"
        body = draw.choice([b"zz\r\n" + body, b"%x\r\n" % len(body) + body, b"5\r\nab\r\n0\r\n\r\n", b"-1\r\n", b""])
    elif framing == 1:
        headers["Content-Length"] = draw.choice(["0", "3", str(len(body) + 9), "-1", "x", "9" * 30])
    elif framing > 2:
        headers["Content-Length"] = str(len(body))
    head = f"HTTP/1.1 {status} x\r\n" + "".join(f"{name}: {text}\r\n" for name, text in headers.items()) + "\r\n"
    raw = head.encode("latin-1") + body
    if draw.random() < 0.04:
        raw = mutate_bytes(raw, draw)
    return raw, 0.02 if draw.random() < 0.005 else 0.0


def is_search(number: int) -> bool:
    """Every third reply is one of a search server."""
    return number % 3 == 2


@contextmanager
def serving(seed: int) -> Iterator[str]:
    """A server whose reply to the text ``#n#`` is reply ``n``; its URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(TIME_LIMIT)
            asked = b""
            while (found := re.search(rb"#(\d+)#", asked)) is None:
                received = connection.recv(65536)
                if not received:
                    return
                asked += received
            raw, pause = reply(int(found[1]), seed)
            if pause:
                for byte in raw:
                    connection.sendall(bytes([byte]))
                    time.sleep(pause)
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


@dataclass
class Outcome:
    """What became of the replies: counts by kind, and the failures, told."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0


def judge(outcome: Outcome, numbers: Sequence[int], kind: str, told: str, seconds: float) -> None:
    """Count what came of the replies ``numbers``, and find fault with it."""
    outcome.counts[kind] += len(numbers)
    outcome.slowest = max(outcome.slowest, seconds)
    if KEY in told:
        outcome.failures.append(f"{numbers}: tells the key: {told[:300]}")
    if kind != "chat: completion" and kind != "search: passages" and ("\n" in told or len(told) > 800):
        outcome.failures.append(f"{numbers}: not one short line: {told[:300]!r}")
    if seconds > TIME_LIMIT:
        outcome.failures.append(f"{numbers}: {seconds:.1f} s")


def ask_chat(url: str, numbers: Sequence[int], outcome: Outcome) -> None:
    """Ask for several replies by the chat client; one that ends the call is asked for alone."""
    client = ChatClient(Server(url=f"{url}/v1", model="m", concurrency=4, timeout=TIMEOUT, attempts=1))
    started = time.monotonic()
    bodies = [{"messages": [{"role": "user", "content": f"#{number}#"}], "max_tokens": 9} for number in numbers]
    try:
        replies = client.ask(bodies)
    except PrefdeltaError as error:
        if len(numbers) == 1:
            judge(outcome, numbers, "chat: error for all requests", str(error), time.monotonic() - started)
            return
        for number in numbers:
            ask_chat(url, [number], outcome)
        return
    seconds = (time.monotonic() - started) / max(1, len(numbers) // 4)
    for number, found in zip(numbers, replies, strict=True):
        assert isinstance(found, Completion | Refusal)
        kind = "completion" if isinstance(found, Completion) else f"refusal, {found.kind.split()[0]}"
        judge(outcome, [number], f"chat: {kind}", found.reason if isinstance(found, Refusal) else repr(found), seconds)


def ask_search(url: str, number: int, outcome: Outcome) -> None:
    """Ask for one reply by the search client."""
    started = time.monotonic()
    try:
        found = search_client.HttpRetriever(url, top_k=2, timeout=TIMEOUT).search_many([f"#{number}#"])
    except PrefdeltaError as error:
        judge(outcome, [number], "search: error", str(error).replace(KEY, ""), time.monotonic() - started)
    else:
        json.dumps([[passage.text for passage in row] for row in found], ensure_ascii=False).encode()
        judge(outcome, [number], "search: passages", "", time.monotonic() - started)


def fuzz(numbers: Sequence[int], seed: int) -> Outcome:
    """Ask for all replies ``numbers``."""
    os.environ["OPENAI_API_KEY"] = KEY
    search_client._TRIES = 1  # a broken reply stays as it is
    outcome = Outcome()
    chats, searches = [n for n in numbers if not is_search(n)], [n for n in numbers if is_search(n)]
    with serving(seed) as url:
        for part in [chats[start : start + CHUNK] for start in range(0, len(chats), CHUNK)] + [[n] for n in searches]:
            try:
                ask_search(url, part[0], outcome) if is_search(part[0]) else ask_chat(url, part, outcome)
            except Exception:  # noqa: BLE001  finding these is what this program is for
                outcome.failures.append(f"{part}: {traceback.format_exc()}")
    return outcome


def main() -> None:
    """Fuzz, print, and write ``results/fuzz_servers.md`` after a long run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    if options.only is not None:
        print(reply(options.only, options.seed)[0][:2000])
    outcome = fuzz([options.only] if options.only is not None else range(options.inputs), options.seed)
    rows = [f"| {kind} | {count:,} |" for kind, count in sorted(outcome.counts.items())]
    text = (
        f"# Broken and hostile replies of servers\n\n`python benchmarks/fuzz_servers.py --inputs {options.inputs} "
        f"--seed {options.seed}`: {sum(outcome.counts.values()):,} replies, {len(outcome.failures)} failures "
        f"(a traceback, a key that is told, a message of several lines, over {TIME_LIMIT:g} s); slowest "
        f"{outcome.slowest:.1f} s.\n\n| outcome | replies |\n|---|---|\n" + "\n".join(rows) + "\n"
    )
    print(text)
    for failure in outcome.failures[:20]:
        print(failure)
    if options.inputs >= 20_000 and not outcome.failures:
        RESULTS.write_text(text, encoding="utf-8")
    if outcome.failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
