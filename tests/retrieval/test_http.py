"""The client of Search-R1's server, against a real server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Search
from prefdelta.records import Document
from prefdelta.retrieval import Bm25Index, http, open_retriever
from prefdelta.retrieval.http import HttpRetriever

CORPUS = [Document(f"d{n}", f"text {n} common", title=f"Title {n}") for n in range(9)]
QUERIES = ["text 3", "common", "", "nothing"]


class Server(ThreadingHTTPServer):
    """Answers as Search-R1's does, after ``failures`` failed tries; ``answer`` replaces the answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.failures = 0
        self.status = 503
        self.answer: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.paths.append(self.path)
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(self.server.status)
            return
        found = Bm25Index(CORPUS, top_k=body["topk"]).search_many(body["queries"])
        result = [
            [
                {"document": {"id": entry.id, "contents": f'"{entry.title}"\n{entry.text}'}, "score": 1.0}
                for entry in row
            ]
            for row in found
        ]
        payload = self.server.answer if self.server.answer is not None else json.dumps({"result": result}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.01)
    with running() as started:
        yield started


def test_a_server_gives_the_passages_that_its_index_gives(server: Server) -> None:
    retriever = open_retriever(Search(corpus=server.url, top_k=2))
    assert retriever.search_many(QUERIES) == Bm25Index(CORPUS, top_k=2).search_many(QUERIES)
    assert server.paths == ["/retrieve"]
    assert server.asked == [{"queries": ["text 3", "common", "nothing"], "topk": 2, "return_scores": True}]


def test_each_query_is_asked_once_and_answers_are_kept_between_runs(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "answers.jsonl"
    first = HttpRetriever(server.url, top_k=2, cache=cache)
    found = first.search_many(QUERIES)
    assert first.search_many(["common", "common", "text 4"])[0] == found[1]
    assert [body["queries"] for body in server.asked] == [["text 3", "common", "nothing"], ["text 4"]]
    with cache.open("a") as handle:
        handle.write('{"url": "http')  # a run that was killed while it wrote
    again = HttpRetriever(server.url, top_k=2, cache=cache, max_words=1)
    assert [[entry.id for entry in row] for row in again.search_many(QUERIES)] == [
        [entry.id for entry in row] for row in found
    ]
    assert again.search_many(["common"])[0][0].text == "text"
    assert len(server.asked) == 2
    other = HttpRetriever(server.url, top_k=3, cache=cache)
    assert len(other.search_many(["common"])[0]) == 3
    assert len(server.asked) == 3


def test_passing_trouble_is_tried_again(server: Server) -> None:
    server.failures = 2
    assert HttpRetriever(server.url, top_k=1).search_many(["text 3"])[0][0].title == "Title 3"
    assert len(server.asked) == 3


@pytest.mark.parametrize(("status", "tries"), [(503, 4), (404, 1)])
def test_lasting_trouble_is_an_error(server: Server, status: int, tries: int) -> None:
    server.failures, server.status = 99, status
    with pytest.raises(PrefdeltaError, match=f"does not answer: HTTP {status}"):
        HttpRetriever(server.url, top_k=1).search_many(["text 3"])
    assert len(server.asked) == tries


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"result": [[{"text": "x"}]]}', b'{"result": []}'])
def test_a_wrong_answer_is_an_error(server: Server, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(PrefdeltaError, match="the search server"):
        HttpRetriever(server.url, top_k=1).search_many(["text 3"])


def test_nobody_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.01)
    with running() as gone:
        url = gone.url
    with pytest.raises(PrefdeltaError, match="start it or correct the URL"):
        HttpRetriever(url, top_k=1).search_many(["text 3"])
