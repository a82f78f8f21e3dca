"""Asking any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, a hosted API.

Transport, retries, backoff and ``Retry-After`` are those of the library ``openai``. Added to it: a deadline for a whole
try and a largest reply, errors inside HTTP 200 (they are tried again as well), the fields that a server refuses, and
that every request ends as a ``Completion`` or as a ``Refusal`` that says why. Only what no retry can mend for any
request (a wrong key, an unknown model) is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx2

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.http import BoundedClient, TooLargeError, one_line
from prefdelta.generation.completion import Refusal, Reply, read_completion, read_failure
from prefdelta.generation.fields import RequestFields
from prefdelta.recipe import Server

if TYPE_CHECKING:  # half a second of imports that only a conversation with a server needs
    from openai import AsyncOpenAI

_FATAL = {401: "refuses the key", 403: "refuses the key", 404: "does not know this path or model"}
_NEW_SHAPES = 16
"""The most times that one request is asked again with other fields."""


class ChatClient:
    """Sends requests to a server, several at a time. The key is taken from the environment, if it is set there.

    Attributes:
        retried: the tries that failed and were made again, by the kind of failure.
        fields: what the server takes, as learnt from its refusals.
    """

    def __init__(self, server: Server) -> None:
        self.retried: Counter[str] = Counter()
        self.fields = RequestFields(server.omit)
        self._server = server
        self._hopeless = max(16, 2 * server.concurrency)
        self._key = (os.environ.get(server.api_key_env) or "").strip() or None

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

        The event loop runs in a thread of its own, so that a notebook, which has a running loop, can ask as well.
        Closing the iterator cancels what is under way: nothing more is sent.
        """
        self._check()
        done: queue.SimpleQueue[tuple[int, Reply] | BaseException] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        work = loop.create_task(self._answer_all(bodies, done))

        def run() -> None:
            try:
                loop.run_until_complete(work)
            except asyncio.CancelledError:
                pass
            except BaseException as error:  # noqa: BLE001  raised again in the thread that waits for it
                done.put(error)
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()

        # A daemon, because Python waits for all others at its end, and a server can keep one waiting for long.
        threading.Thread(target=run, name="chat-client", daemon=True).start()
        try:
            for _ in bodies:
                outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(work.cancel)

    async def _answer_all(
        self, bodies: Sequence[Mapping[str, Any]], done: queue.SimpleQueue[tuple[int, Reply] | BaseException]
    ) -> None:
        from openai import AsyncOpenAI

        many, failed_in_a_row = self._server.concurrency, 0
        jobs = iter(enumerate(bodies))
        http = _Transport(self._server, self._key, self.retried)
        client = AsyncOpenAI(
            base_url=self._server.url,
            api_key=self._key or "none",
            max_retries=self._server.attempts - 1,
            timeout=self._server.timeout,
            http_client=http,
        )

        async def work() -> None:
            nonlocal failed_in_a_row
            for place, body in jobs:
                if failed_in_a_row >= self._hopeless:
                    done.put((place, Refusal(f"not asked: the {failed_in_a_row} requests before it all failed")))
                    continue
                reply = await self._answer(client, body)
                # A request that the server understood and declined (it was too long) does not speak against it.
                failed_in_a_row = failed_in_a_row + 1 if isinstance(reply, Refusal) and reply.passing else 0
                done.put((place, reply))

        async with client:
            workers = [asyncio.ensure_future(work()) for _ in range(min(many, len(bodies)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()

    async def _answer(self, client: AsyncOpenAI, body: Mapping[str, Any]) -> Reply:
        whole = {"model": self._server.model, **body}
        for _ in range(_NEW_SHAPES):
            sent = self.fields.adapted(whole)
            reply, refused = await self._try(client, sent)
            if not refused or not self.fields.learn(sent, refused) or self.fields.adapted(whole) == sent:
                break
        return reply

    async def _try(self, client: AsyncOpenAI, sent: Mapping[str, Any]) -> tuple[Reply, bytes]:
        """The reply after all tries of the library, and the body of a refusal (HTTP 400 or 422), if it is one."""
        from openai import APIConnectionError, APIStatusError

        try:
            # ASCII with escapes, so that half a surrogate pair in a model's answer can be sent on.
            response: httpx2.Response = await client.post(
                "/chat/completions",
                content=json.dumps(sent).encode("ascii"),
                options={"headers": {"Content-Type": "application/json"}},
                cast_to=httpx2.Response,
            )
        except APIStatusError as error:
            response = error.response
        except APIConnectionError as error:
            refusal = _unreachable(error.__cause__, self._server, self._key)
            self.retried[refusal.kind] -= 1  # the last try was not made again
            return refusal, b""
        reply: Reply = response.extensions["reply"]
        if isinstance(reply, Refusal):
            self.retried[reply.kind] -= 1
        status, received = response.status_code, response.content
        if status in _FATAL or 300 <= status < 400:
            target = one_line(response.headers.get("location", "nowhere"), secret=self._key)
            told = f"redirects to {target}" if status < 400 else _FATAL[status]
            raise PrefdeltaError(
                f"{self._server.url} {told} (HTTP {status}: {one_line(received, secret=self._key)}); check the URL, "
                f"the model {self._server.model!r} and {self._server.api_key_env}."
            )
        learns = status in (400, 422) and not (isinstance(reply, Refusal) and reply.declined)
        return reply, received if learns else b""

    def _check(self) -> None:
        try:
            url = httpx2.URL(self._server.url)
        except httpx2.InvalidURL as error:
            raise PrefdeltaError(f"{self._server.url!r} is no URL ({error}).") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise PrefdeltaError(f"{self._server.url!r} is no URL; it looks like http://localhost:8000/v1.")
        if self._key is not None and not (self._key.isascii() and self._key.isprintable()):
            raise PrefdeltaError(f"the key in {self._server.api_key_env} holds letters that no HTTP header can hold.")


class _Transport(BoundedClient):
    """One try of the library: paced, bounded, and read.

    A reply with HTTP 200 that is no answer, and may be one when asked again, is given to the library as HTTP 502: so
    it is tried again like any other failure. ``extensions["reply"]`` holds what was read.
    """

    def __init__(self, server: Server, key: str | None, failed: Counter[str]) -> None:
        many = server.concurrency
        super().__init__(server.timeout, limits=httpx2.Limits(max_connections=many, max_keepalive_connections=many))
        self._server = server
        self._key = key
        self._failed = failed
        self._next_try = 0.0

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request, and read the reply."""
        if self._key is None:
            request.headers.pop("Authorization", None)  # the library does not do without a key
        await self._turn()
        try:
            response = await super().send(request, **options)
        except httpx2.RequestError as error:
            self._failed[_unreachable(error, self._server, self._key).kind] += 1
            raise
        reply: Reply = (
            read_completion(response.content, limit=_limit(request), secret=self._key)
            if response.status_code == 200
            else read_failure(response.status_code, response.content, secret=self._key)
        )
        if isinstance(reply, Refusal):
            self._failed[reply.kind] += 1
            if response.status_code == 200 and reply.passing:
                response = httpx2.Response(502, content=response.content, request=request)
        response.extensions["reply"] = reply
        return response

    async def _turn(self) -> None:
        """Wait until a try may be made, by the rate asked for."""
        if self._server.per_minute is not None:
            at = max(time.monotonic(), self._next_try)
            self._next_try = at + 60 / self._server.per_minute
            await asyncio.sleep(at - time.monotonic())


def _limit(request: httpx2.Request) -> int | None:
    """The most tokens that a request asks for."""
    body = json.loads(request.content)
    limit: int | None = body.get("max_tokens", body.get("max_completion_tokens"))
    return limit


def _unreachable(error: BaseException | None, server: Server, key: str | None) -> Refusal:
    if isinstance(error, httpx2.TimeoutException):
        return Refusal(f"timeout: no answer within {server.timeout:g} s", passing=True)
    told = one_line(str(error), secret=key) if error is not None and str(error) else type(error).__name__
    if isinstance(error, TooLargeError):
        return Refusal(f"too large: the server sent {told}", passing=True)
    return Refusal(f"no connection: {told}", passing=True)
