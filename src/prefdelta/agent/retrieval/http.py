"""Searching through a server that speaks Search-R1's protocol: ``POST {queries, topk, return_scores}``.

It answers ``{"result": [[{"document": {"contents": "Title\\nText"}, "score": ...}, ...], ...]}``, one list a query.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from prefdelta.agent.retrieval.corpus import from_contents
from prefdelta.agent.retrieval.retriever import cut_words
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.http import TooLargeError, one_line, post, well_formed
from prefdelta.core.records import Document, to_json
from prefdelta.core.resumable_rows import ResumableRows

_PATH = "/retrieve"
_TRIES = 4
_FIRST_WAIT = 0.5  # seconds; doubled after each failure


class HttpRetriever:
    """Asks a search server, each query once.

    Args:
        url: the server; ``/retrieve`` is added where the URL has no path.
        top_k: the most passages a search returns.
        max_words: cut the text of a returned passage after so many words.
        cache: a JSON Lines file of answers, read at the start and added to; ``None`` keeps them in memory only.
        timeout: seconds after which a try is given up, however steadily bytes trickle in.
    """

    def __init__(
        self, url: str, *, top_k: int, max_words: int | None = None, cache: Path | None = None, timeout: float = 60.0
    ) -> None:
        bare = url.rstrip("/")
        self.url = bare if bare.partition("://")[2].count("/") else bare + _PATH
        self.top_k = top_k
        self._max_words = max_words
        self._timeout = timeout
        self._cache = ResumableRows(cache) if cache else None
        self._found: dict[str, list[Document]] = {}

    def search_many(self, queries: Sequence[str]) -> list[list[Document]]:
        """The best passages for each query, in order. An empty query finds nothing and is not sent.

        Raises:
            PrefdeltaError: the server cannot be reached, refuses, or answers something else than passages.
        """
        asked = [query for query in dict.fromkeys(queries) if query.strip() and query not in self._found]
        if self._cache is not None:
            kept = {query: self._cache.found[key] for query in asked if (key := self._key(query)) in self._cache.found}
            self._found.update((query, [Document(**row) for row in rows]) for query, rows in kept.items())
        new = [query for query in asked if query not in self._found]
        if new:
            self._found.update(zip(new, self._ask(new), strict=True))
            if self._cache is not None:
                self._cache.add((self._key(query), self._found[query]) for query in new)
        return [[cut_words(document, self._max_words) for document in self._found.get(query, ())] for query in queries]

    def _key(self, query: str) -> str:
        return to_json([self.url, self.top_k, well_formed(query)])

    def _ask(self, queries: Sequence[str]) -> list[list[Document]]:
        body = {"queries": list(queries), "topk": self.top_k, "return_scores": True}
        answer = self._post(json.dumps(body).encode())
        try:
            result = json.loads(answer)["result"]
            if not isinstance(result, list):
                raise TypeError("the result is no list")
            found = [_documents(entries, self.top_k) for entries in result]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PrefdeltaError(
                f"the search server {self.url} did not answer in Search-R1's form ({type(error).__name__}: "
                f"{one_line(str(error), 80)}): {one_line(answer)}"
            ) from error
        if len(found) != len(queries):
            raise PrefdeltaError(
                f"the search server {self.url} answered {len(found)} of {len(queries)} queries; check its version."
            )
        return found

    def _post(self, body: bytes) -> bytes:
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_FIRST_WAIT * 2 ** (attempt - 1))
            try:
                response = post(self.url, body, headers={"Content-Type": "application/json"}, seconds=self._timeout)
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise PrefdeltaError(f"the search server {self.url!r} is no URL ({one_line(str(error))}).") from error
            except httpx2.RequestError as error:
                reason = one_line(str(error)) if str(error) else type(error).__name__
                if isinstance(error, TooLargeError):
                    break
                continue
            if response.status_code == 200:
                return response.content
            reason = f"HTTP {response.status_code} {one_line(response.reason_phrase)}"
            if 300 <= response.status_code < 400:
                reason = (
                    f"it redirects to {one_line(response.headers.get('location', 'nowhere'))}, where no text is sent"
                )
            if response.status_code < 500 and response.status_code != 429:
                break
        raise PrefdeltaError(f"the search server {self.url} does not answer: {reason}; start it or correct the URL.")


def _documents(entries: Any, top_k: int) -> list[Document]:
    """The passages found by one query."""
    if not isinstance(entries, list):
        raise TypeError("the passages of a query are no list")
    return [_document(entry) for entry in entries[:top_k]]


def _document(entry: Any) -> Document:
    """One passage of an answer: with its score beside it, or bare."""
    document = entry["document"] if isinstance(entry, dict) and "document" in entry else entry
    if not isinstance(document, dict) or not isinstance(document["contents"], str):
        raise TypeError("a passage has no text as its contents")
    number = document.get("id", "")
    if not isinstance(number, str | int):
        raise TypeError("a passage's id is neither text nor number")
    return from_contents(well_formed(str(number)), well_formed(document["contents"]))
