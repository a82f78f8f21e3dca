"""HTTP requests with a total deadline and a largest size, for servers that hang, drip, flood or redirect."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import queue
import re
import ssl
import threading
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx2

LARGEST = 64 * 2**20
"""The most bytes of a body, compressed or not."""


class TooLargeError(httpx2.RequestError):
    """The body is larger than allowed."""


class BoundedClient(httpx2.AsyncClient):
    """httpx2's client, whose every request ends after ``seconds`` and whose bodies have at most ``largest`` bytes.

    httpx2's own timeouts are per read, so that a server that sends a byte now and then is waited for without end.
    Redirects are not followed: a request with a key or a user's text goes to the address that was given.

    Raises (from ``send``):
        httpx2.RequestError: the server cannot be reached, takes too long (``ReadTimeout``) or sends too much
            (``TooLargeError``), or does not speak HTTP.
    """

    def __init__(self, seconds: float, *, largest: int = LARGEST, **options: Any) -> None:
        super().__init__(timeout=seconds, follow_redirects=False, verify=_tls(), **options)
        self._seconds = seconds
        self._largest = largest
        self.headers["Accept-Encoding"] = "identity"

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request; the body of the response has been read."""
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().send(request, **{**options, "stream": True})
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"no answer within {self._seconds:g} s", request=request) from error
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_TRANSFER]
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)

    async def _read(self, response: httpx2.Response) -> bytes:
        received = bytearray()
        async for chunk in response.aiter_raw():
            received += chunk
            if len(received) > self._largest:
                raise TooLargeError(f"more than {self._largest >> 20} MiB", request=response.request)
        return _decompressed(bytes(received), response, self._largest)


_OF_THE_TRANSFER = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


@cache
def _tls() -> ssl.SSLContext:
    """The certificates of this machine, read once."""
    return httpx2.create_ssl_context()


def _decompressed(body: bytes, response: httpx2.Response, largest: int) -> bytes:
    """The body, where a server compresses it though it was asked not to; never more than ``largest`` bytes of it."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity") or not body:
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx2.DecodingError(f"a body in the encoding {encoding[:40]!r}", request=response.request)
    try:
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
        text = decoder.decompress(body, largest)
    except zlib.error as error:
        raise httpx2.DecodingError(f"a damaged {encoding} body ({error})", request=response.request) from error
    if decoder.unconsumed_tail:
        raise TooLargeError(f"more than {largest >> 20} MiB", request=response.request)
    return text


def post(
    url: str, content: bytes, *, headers: Mapping[str, str], seconds: float, largest: int = LARGEST
) -> httpx2.Response:
    """One POST request, bounded as by :class:`BoundedClient`; works where an event loop runs already, too.

    Raises:
        httpx2.RequestError: as :class:`BoundedClient`.
        httpx2.InvalidURL: the URL is none.
    """

    async def ask() -> httpx2.Response:
        async with BoundedClient(seconds, largest=largest) as client:
            return await client.post(url, content=content, headers=dict(headers))

    outcome: queue.SimpleQueue[httpx2.Response | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(asyncio.run(ask()))
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits for it
            outcome.put(error)

    # A daemon, because Python waits for all others at its end.
    threading.Thread(target=run, daemon=True).start()
    found = outcome.get()
    if isinstance(found, BaseException):
        raise found
    return found


def one_line(text: str | bytes, most: int = 200, *, secret: str | None = None) -> str:
    """The beginning of what a server sent, for a message: one line, without a key that the server repeats."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    shown = "".join(letter if letter.isprintable() else " " for letter in without(text, secret))
    return " ".join(shown.split())[:most] or "an empty answer"


def without(text: str, secret: str | None) -> str:
    """The text with a secret blotted out, in whatever spelling servers repeat it."""
    if not secret:
        return text
    squeezed = re.sub(f"{_BROKEN}+", "", text).lower()
    for spelling in _spellings(secret):
        if spelling.lower() in squeezed:
            text = re.sub(f"{_BROKEN}*".join(map(re.escape, spelling)), "***", text, flags=re.IGNORECASE)
    return text


_BROKEN = r"[\s\x00-\x1f]"
"""What may stand between the letters of a secret that is broken into lines."""
_LONG = 8
"""Characters from which on a secret is looked for in other spellings; those of a shorter one mean nothing."""


@cache
def _spellings(secret: str) -> list[str]:
    """A secret as it is, escaped for a URL, HTML or JSON, in hexadecimal and in base64."""
    if len(secret) < _LONG:
        return [secret]
    written = secret.encode()
    found = {secret, quote(secret, safe=""), html.escape(secret), json.dumps(secret)[1:-1], written.hex()}
    for before in range(3):  # base64 takes three bytes at a time, so that what lies before decides how it begins
        coded = base64.b64encode(bytes(before) + written).decode()
        inner = coded[-(-before * 8 // 6) : (before + len(written)) * 8 // 6]
        found |= {inner, inner.translate(str.maketrans("+/", "-_"))}
    return sorted(found | {spelling.replace("/", r"\/") for spelling in found}, key=len, reverse=True)


def well_formed(text: str) -> str:
    """The text with every half of a surrogate pair replaced: JSON may carry such halves, but no file can hold them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
