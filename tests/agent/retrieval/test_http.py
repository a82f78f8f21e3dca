"""The client of Search-R1's server, against a real server on this machine."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prefdelta.agent.retrieval import Bm25Index, http, open_retriever
from prefdelta.agent.retrieval.http import HttpRetriever
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document
from prefdelta.recipe import Search
from serving import Handler, serving

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
        self.good = 200
        self.headers: dict[str, str] = {}
        self.piece, self.pause = 1 << 20, 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(Handler):
    protocol_version = "HTTP/1.0"  # where no length is sent
    server: Server

    def do_POST(self) -> None:
        body = self.posted()
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
        self.send_response(self.server.good)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has had enough
            for start in range(0, len(payload), self.server.piece):
                self.wfile.write(payload[start : start + self.server.piece])
                self.wfile.flush()
                time.sleep(self.server.pause)


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    with serving(server):
        yield server


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
        handle.write('{"key": "http')  # a run that was killed while it wrote
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


WRONG = [
    b"",
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"{}",
    b"<html><body>502 Bad Gateway</body></html>",
    b"\xff\xfe",
    b"\x1f\x8b\x08\x00damaged",
    b"[" * 100_000,
    b'{"result": null}',
    b'{"result": {}}',
    b'{"result": "abc"}',
    b'{"result": []}',
    b'{"result": [[], []]}',
    b'{"result": [null]}',
    b'{"result": ["abc"]}',
    b'{"result": [{"document": {}}]}',
    b'{"result": [[7]]}',
    b'{"result": [["abc"]]}',
    b'{"result": [[null]]}',
    b'{"result": [[{"document": null}]]}',
    b'{"result": [[{"document": "abc"}]]}',
    b'{"result": [[{"text": "x"}]]}',
    b'{"result": [[{"contents": 7}]]}',
    b'{"result": [[{"contents": null}]]}',
    b'{"result": [[{"contents": "x", "id": []}]]}',
    b'{"result": [[{"contents": "x"',
    b'{"result": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("answer", WRONG)
def test_a_wrong_answer_is_an_error_of_one_line(server: Server, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(PrefdeltaError, match="the search server") as told:
        HttpRetriever(server.url, top_k=1).search_many(["text 3"])
    assert len(str(told.value)) < 500
    assert "\n" not in str(told.value)


def test_strange_text_is_kept_and_read_again(server: Server, tmp_path: Path) -> None:
    server.answer = b'{"result": [[{"id": 7, "contents": "T\\ud83d\\nhalf \\ud83d \\u2028 \\u0000", "score": NaN}]]}'
    cache = tmp_path / "cache.jsonl"
    (found,) = HttpRetriever(server.url, top_k=1, cache=cache).search_many(["\ud83d?"])
    assert found == [Document("7", "half \ufffd \u2028 \x00", title="T\ufffd")]
    assert HttpRetriever(server.url, top_k=1, cache=cache).search_many(["\ud83d?"]) == [found]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "damage", [b"\xe2\x80", b"[" * 100_000, b"{}", b"null", b'{"key": [], "sum": 1, "value": 2}', b"\xff"]
)
def test_a_damaged_line_of_the_cache_costs_that_line_only(server: Server, tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "cache.jsonl"
    for query in ("text 1", "text 2", "text 3"):
        HttpRetriever(server.url, top_k=1, cache=cache).search_many([query])
    first, _, last = cache.read_bytes().splitlines()
    cache.write_bytes(first + b"\n" + damage + b"\n" + last + b"\n" + damage)
    again = HttpRetriever(server.url, top_k=1, cache=cache)
    assert again.search_many(["text 1", "text 3"]) == Bm25Index(CORPUS, top_k=1).search_many(["text 1", "text 3"])
    assert len(server.asked) == 3
    again.search_many(["text 2"])
    assert len(server.asked) == 4
    HttpRetriever(server.url, top_k=1, cache=cache).search_many(["text 1", "text 2", "text 3"])
    assert len(server.asked) == 4


def test_a_server_that_drips_is_not_waited_for(server: Server) -> None:
    server.piece, server.pause = 1, 0.05
    with pytest.raises(PrefdeltaError, match=r"no answer within 0\.2 s"):
        HttpRetriever(server.url, top_k=1, timeout=0.2).search_many(["text 3"])


def test_no_text_follows_a_redirect(server: Server) -> None:
    with running() as other:
        server.good, server.headers = 307, {"Location": other.url + "/retrieve"}
        with pytest.raises(PrefdeltaError, match=f"redirects to {other.url}"):
            HttpRetriever(server.url, top_k=1).search_many(["text 3"])
        assert not other.asked
    assert len(server.asked) == 1


def test_bodies_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = b" " * (65 << 20)
    with pytest.raises(PrefdeltaError, match="more than 64 MiB"):
        HttpRetriever(server.url, top_k=1).search_many(["text 3"])
    server.answer, server.headers = gzip.compress(server.answer), {"Content-Encoding": "gzip"}
    assert len(server.answer) < 1 << 20
    with pytest.raises(PrefdeltaError, match="more than 64 MiB"):
        HttpRetriever(server.url, top_k=1).search_many(["text 3"])
    server.answer = gzip.compress(json.dumps({"result": [[{"contents": "T\nx"}]]}).encode())
    assert HttpRetriever(server.url, top_k=1).search_many(["text 3"]) == [[Document("", "x", title="T")]]
    server.answer = server.answer[:-12] + b"x" * 12
    with pytest.raises(PrefdeltaError, match="the search server"):
        HttpRetriever(server.url, top_k=1).search_many(["text 3"])


def test_nobody_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.01)
    with running() as gone:
        url = gone.url
    with pytest.raises(PrefdeltaError, match="start it or correct the URL"):
        HttpRetriever(url, top_k=1).search_many(["text 3"])
