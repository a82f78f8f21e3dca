"""Asking any server that speaks OpenAI's chat completions protocol: vLLM, llama.cpp, a hosted API.

A server that is slow, wrong or gone costs single answers, never the run: every request ends as a ``Completion`` or as
a ``Refusal`` that says why. Only what no retry can mend for any request (a wrong key, an unknown model) is an error.
"""

from __future__ import annotations

import json
import os
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

import httpx2

from prefdelta.errors import PrefdeltaError

API_KEY = "OPENAI_API_KEY"

_FATAL = {401: "refuses the key", 403: "refuses the key", 404: "does not know this path or model"}
_PASSING = frozenset({408, 409, 425, 429})  # and all 5xx: worth another try
_LONGEST_PAUSE = 60.0
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class Endpoint:
    """A server, and how patient to be with it.

    Attributes:
        url: up to and with the version, ``http://localhost:8000/v1``.
        model: the name under which the server knows the model.
        concurrency: how many requests are under way at a time.
        timeout: seconds after which a try is given up, however steadily bytes trickle in.
        attempts: how often a request is tried in all.
        backoff: seconds before the second try; doubled before each later one, and each made up to a quarter longer
            at random, so that requests that failed together do not come back together. A ``Retry-After`` that the
            server sends counts as well, for all requests.
        per_minute: the most tries in a minute, evenly spread; as many as there can be if ``None``.
        key: the environment variable that holds the key.
    """

    url: str
    model: str
    concurrency: int = 8
    timeout: float = 300.0
    attempts: int = 5
    backoff: float = 1.0
    per_minute: float | None = None
    key: str = API_KEY


@dataclass(frozen=True)
class Completion:
    """What the model answered.

    Attributes:
        text: the answer; empty if the model wrote none.
        finish: why it ended, in the server's words: ``stop``, ``length``.
        tokens: how many tokens it wrote, or ``None`` if the server does not say.
        reasoning: its thinking, where the server separates that from the answer.
        logprobs: for each token of the answer, the log-probs of the likeliest tokens; empty unless asked for.
    """

    text: str
    finish: str
    tokens: int | None = None
    reasoning: str = ""
    logprobs: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class Refusal:
    """No answer. ``reason`` begins with a word or two that group reasons (``timeout``, ``http 500``), then a colon."""

    reason: str

    @property
    def kind(self) -> str:
        """The grouping word."""
        return self.reason.partition(":")[0]


Reply: TypeAlias = Completion | Refusal


class ChatClient:
    """Sends requests to an endpoint, several at a time. The key is taken from the environment, if it is set there.

    ``retried`` counts the tries that failed and were made again, by the kind of failure.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.retried: Counter[str] = Counter()
        self._endpoint = endpoint
        self._hopeless = max(16, 2 * endpoint.concurrency)

    def ask(
        self, bodies: Sequence[Mapping[str, Any]], arrived: Callable[[int, Reply], None] | None = None
    ) -> list[Reply]:
        """Answer all requests; the replies are in the order of the requests.

        When many requests in a row have failed in all their tries, the server is taken for dead, and the remaining
        ones end as refusals without being sent.

        Args:
            bodies: chat completion requests (``messages``, ``max_tokens``, ...) without the ``model``.
            arrived: called with a request's place and reply as soon as it is there, in this thread.

        Raises:
            PrefdeltaError: the URL is none, or the server refuses the key or does not know the model.
        """
        replies: list[Reply] = [Refusal("not asked")] * len(bodies)
        for place, reply in self.replies(bodies):
            replies[place] = reply
            if arrived is not None:
                arrived(place, reply)
        return replies

    def replies(self, bodies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """:meth:`ask`, as places and replies in the order in which they arrive.

        Closing the iterator ends the work: nobody sleeps on, and nothing more is sent.
        """
        with self._client() as client:
            work = _Work(client, self._endpoint, self._hopeless, bodies, self.retried)
            # Daemons, because Python waits for all others at its end, and a server can keep one waiting for long.
            workers = [
                threading.Thread(target=work.run, daemon=True)
                for _ in range(min(self._endpoint.concurrency, len(bodies)))
            ]
            try:
                for worker in workers:
                    worker.start()
                yield from work.done()
            finally:
                work.stop.set()

    def _client(self) -> httpx2.Client:
        key = os.environ.get(self._endpoint.key)
        many = self._endpoint.concurrency
        try:
            url = httpx2.URL(self._endpoint.url)
        except httpx2.InvalidURL as error:
            raise PrefdeltaError(f"{self._endpoint.url!r} is no URL ({error}).") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise PrefdeltaError(f"{self._endpoint.url!r} is no URL; it looks like http://localhost:8000/v1.")
        return httpx2.Client(
            headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})},
            timeout=self._endpoint.timeout,
            limits=httpx2.Limits(max_connections=many, max_keepalive_connections=many),
        )


class _Work:
    """What the threads of one :meth:`ChatClient.ask` share."""

    def __init__(
        self,
        client: httpx2.Client,
        endpoint: Endpoint,
        hopeless: int,
        bodies: Sequence[Mapping[str, Any]],
        retried: Counter[str],
    ) -> None:
        self.stop = threading.Event()
        self._client = client
        self._endpoint = endpoint
        self._hopeless = hopeless
        self._retried = retried
        self._count = len(bodies)
        self._todo: queue.SimpleQueue[tuple[int, Mapping[str, Any]]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Reply | BaseException]] = queue.SimpleQueue()
        self._failed_in_a_row = 0
        self._not_before = 0.0
        self._next_try = 0.0
        self._lock = threading.Lock()
        for job in enumerate(bodies):
            self._todo.put(job)

    def run(self) -> None:
        """What each thread does until nothing is left to do."""
        while not self.stop.is_set():
            try:
                place, body = self._todo.get_nowait()
            except queue.Empty:
                return
            try:
                self._done.put((place, self._reply(place, body)))
            except BaseException as error:  # noqa: BLE001  handed to the thread that waits for it
                self._done.put((place, error))

    def done(self) -> Iterator[tuple[int, Reply]]:
        """Places and replies, as they arrive."""
        for _ in range(self._count):
            place, outcome = self._done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield place, outcome

    def _reply(self, place: int, body: Mapping[str, Any]) -> Reply:
        if self._failed_in_a_row >= self._hopeless:
            return Refusal(f"not asked: the {self._failed_in_a_row} requests before it all failed")
        # ASCII with escapes, so that half a surrogate pair in a model's answer can be sent on.
        content = json.dumps({"model": self._endpoint.model, **body}).encode("ascii")
        outcome: Reply = Refusal("not asked")
        jitter = random.Random(place)
        for attempt in range(self._endpoint.attempts):
            if attempt:
                with self._lock:
                    self._retried[outcome.kind if isinstance(outcome, Refusal) else ""] += 1
                pause = self._endpoint.backoff * 2 ** (attempt - 1) * (1 + jitter.random() / 4)
                self.stop.wait(min(pause, _LONGEST_PAUSE))
            self.stop.wait(self._turn())
            if self.stop.is_set():
                return Refusal("not asked: interrupted")
            outcome, again = self._try(content)
            if not again:
                break
        # A request that the server understood and declined (it was too long) does not speak against the server.
        with self._lock:
            self._failed_in_a_row = self._failed_in_a_row + 1 if isinstance(outcome, Refusal) and again else 0
        return outcome

    def _turn(self) -> float:
        """Seconds until a try may be made, by the server's wish and by the rate asked for."""
        with self._lock:
            now = time.monotonic()
            at = max(now, self._not_before)
            if self._endpoint.per_minute is not None:
                at = max(at, self._next_try)
                self._next_try = at + 60 / self._endpoint.per_minute
            return at - now

    def _try(self, content: bytes) -> tuple[Reply, bool]:
        """One try: the reply, and whether another try may do better."""
        try:
            status, headers, received = self._send(content)
        except (httpx2.TimeoutException, TimeoutError):
            return Refusal(f"timeout: no answer within {self._endpoint.timeout:g} s"), True
        except OverflowError:
            return Refusal(f"too large: the server sent more than {_LARGEST >> 20} MiB"), False
        except httpx2.HTTPError as error:
            return Refusal(f"no connection: {str(error) or type(error).__name__}"), True
        if status in _FATAL:
            raise PrefdeltaError(
                f"{self._endpoint.url} {_FATAL[status]} (HTTP {status}: {_excerpt(received)}); check the URL, the "
                f"model {self._endpoint.model!r} and {self._endpoint.key}."
            )
        if status != 200:
            self._pause(headers.get("retry-after"))
            return Refusal(f"http {status}: {_excerpt(received)}"), status in _PASSING or status >= 500
        try:
            return _completion(json.loads(received)), False
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            return Refusal(f"malformed: {type(error).__name__} in {_excerpt(received)}"), True

    def _send(self, content: bytes) -> tuple[int, Mapping[str, str], bytes]:
        deadline = time.monotonic() + self._endpoint.timeout
        received = bytearray()
        with self._client.stream(
            "POST", self._endpoint.url.rstrip("/") + "/chat/completions", content=content
        ) as response:
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > _LARGEST:
                    raise OverflowError
                if self.stop.is_set() or time.monotonic() > deadline:
                    raise TimeoutError
            return response.status_code, response.headers, bytes(received)

    def _pause(self, retry_after: str | None) -> None:
        seconds = _seconds(retry_after)
        if seconds is not None:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + min(seconds, _LONGEST_PAUSE))


def _seconds(retry_after: str | None) -> float | None:
    """What ``Retry-After`` says: a number of seconds, or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # a date that is none, or one without a zone
        return None


def well_formed(text: str) -> str:
    """The text with every half of a surrogate pair replaced: JSON may carry such halves, but no file can hold them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _completion(answer: Mapping[str, Any]) -> Completion:
    choice = answer["choices"][0]
    message = choice["message"]
    text, reasoning = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    if text is not None and not isinstance(text, str):
        raise TypeError("content is no text")
    usage = answer.get("usage") or {}
    return Completion(
        text=well_formed(text or ""),
        finish=str(choice.get("finish_reason") or ""),
        tokens=int(usage["completion_tokens"]) if "completion_tokens" in usage else None,
        reasoning=well_formed(reasoning) if isinstance(reasoning, str) else "",
        logprobs=tuple(_likeliest(token) for token in (choice.get("logprobs") or {}).get("content") or ()),
    )


def _likeliest(token: Mapping[str, Any]) -> Mapping[str, float]:
    """The log-prob of each likely token, and of the one that was sampled, which a server may leave out of these."""
    given = [token, *(token.get("top_logprobs") or ())]
    return {well_formed(entry["token"]): float(entry["logprob"]) for entry in given}


def _excerpt(received: bytes) -> str:
    text = " ".join(received[:2000].decode("utf-8", errors="replace").split())
    return text[:200] or "an empty answer"
