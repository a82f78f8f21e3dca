"""Searching through a server that speaks Search-R1's protocol: ``POST {queries, topk, return_scores}``.

It answers ``{"result": [[{"document": {"contents": "Title\\nText"}, "score": ...}, ...], ...]}``, one list a query.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Document, to_json
from prefdelta.retrieval.corpus import from_contents
from prefdelta.retrieval.retriever import cut_words

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
        timeout: seconds to wait for an answer.
    """

    def __init__(
        self, url: str, *, top_k: int, max_words: int | None = None, cache: Path | None = None, timeout: float = 60.0
    ) -> None:
        bare = url.rstrip("/")
        self.url = bare if bare.partition("://")[2].count("/") else bare + _PATH
        self.top_k = top_k
        self._max_words = max_words
        self._cache = cache
        self._timeout = timeout
        self._found = _read_cache(cache, self.url, top_k)

    def search_many(self, queries: Sequence[str]) -> list[list[Document]]:
        """The best passages for each query, in order. An empty query finds nothing and is not sent.

        Raises:
            PrefdeltaError: the server cannot be reached, refuses, or answers something else than passages.
        """
        new = [query for query in dict.fromkeys(queries) if query.strip() and query not in self._found]
        if new:
            answers = self._ask(new)
            self._found.update(zip(new, answers, strict=True))
            self._keep(new)
        return [[cut_words(document, self._max_words) for document in self._found.get(query, ())] for query in queries]

    def _ask(self, queries: Sequence[str]) -> list[list[Document]]:
        body = {"queries": list(queries), "topk": self.top_k, "return_scores": True}
        answer = self._post(json.dumps(body).encode())
        try:
            result = json.loads(answer)["result"]
            found = [[_document(entry) for entry in entries][: self.top_k] for entries in result]
        except (ValueError, KeyError, TypeError) as error:
            raise PrefdeltaError(
                f"the search server {self.url} did not answer in Search-R1's form ({error!r}): {answer[:200]!r}."
            ) from error
        if len(found) != len(queries):
            raise PrefdeltaError(
                f"the search server {self.url} answered {len(found)} of {len(queries)} queries; check its version."
            )
        return found

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_FIRST_WAIT * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {error.reason}"
                if error.code < 500 and error.code != 429:
                    break
            except (OSError, ValueError) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise PrefdeltaError(f"the search server {self.url} does not answer: {reason}; start it or correct the URL.")

    def _keep(self, queries: Sequence[str]) -> None:
        if self._cache is None:
            return
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"url": self.url, "top_k": self.top_k, "query": query, "found": self._found[query]} for query in queries
        ]
        with self._cache.open("a", encoding="utf-8") as handle:
            handle.write("".join(to_json(row) + "\n" for row in rows))


def _document(entry: Any) -> Document:
    """One passage of an answer: with its score beside it, or bare."""
    document: Mapping[str, Any] = entry.get("document", entry)
    return from_contents(str(document.get("id", "")), str(document["contents"]))


def _read_cache(path: Path | None, url: str, top_k: int) -> dict[str, list[Document]]:
    if path is None or not path.is_file():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            if (row["url"], row["top_k"]) == (url, top_k):
                found[row["query"]] = [Document(**document) for document in row["found"]]
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed run; its query is asked again
    return found
