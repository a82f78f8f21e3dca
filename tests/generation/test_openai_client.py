"""The client against a real server that misbehaves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from judge_server import JudgeServer, judge_server
from prefdelta.core.errors import PrefdeltaError
from prefdelta.generation.completion import Completion, Refusal
from prefdelta.generation.openai_client import ChatClient
from prefdelta.recipe import Server


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with judge_server() as state:
        yield state


def client(url: str, **options: float) -> ChatClient:
    settings = {"timeout": 60.0, "attempts": 2, "concurrency": 4, **options}
    return ChatClient(Server(url=url, model="some-judge", **settings))  # type: ignore[arg-type]


def body(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 5}


def test_replies_are_in_the_order_of_the_requests(server: JudgeServer) -> None:
    arrived: list[int] = []
    replies = client(server.url).ask(
        [body("good " * count) for count in range(9)], lambda place, reply: arrived.append(place)
    )
    texts = [reply.text for reply in replies if isinstance(reply, Completion)]
    assert texts == [f"It is fine. [[{1 + count}]]" for count in range(9)]
    assert sorted(arrived) == list(range(9))
    assert server.bodies[-1]["model"] == "some-judge"
    assert replies[0] == Completion("It is fine. [[1]]", "stop", 4)


@pytest.mark.parametrize(
    ("word", "kind", "tries"),
    [
        ("CRASH", "http 500", 2),
        ("BUSY", "http 429", 2),
        ("GARBAGE", "malformed", 2),
        ("EMPTYBODY", "malformed", 2),
        ("NOCHOICES", "malformed", 2),
        ("HANGUP", "no connection", 2),
        ("TOOLONG", "http 400", 1),
    ],
)
def test_each_trouble_costs_one_answer_only(server: JudgeServer, word: str, kind: str, tries: int) -> None:
    before = server.requests[word]
    replies = client(server.url).ask([body("good"), body(word), body("good good")])
    assert isinstance(replies[1], Refusal)
    assert replies[1].kind == kind
    assert [type(reply) for reply in replies] == [Completion, Refusal, Completion]
    assert server.requests[word] - before == tries


@pytest.mark.parametrize("word", ["SLOW", "DRIP"])
def test_a_server_that_never_ends_is_not_waited_for(server: JudgeServer, word: str) -> None:
    """Neither one that says nothing nor one that sends a byte now and then, so that no single read takes long."""
    before = server.requests[word]
    replies = client(server.url, timeout=0.3).ask([body(word)] * 3)
    assert [reply.kind for reply in replies if isinstance(reply, Refusal)] == ["timeout"] * 3
    assert server.requests[word] - before == 6


def test_a_passing_failure_is_tried_again(server: JudgeServer) -> None:
    (reply,) = client(server.url).ask([body("ONCE good")])
    assert isinstance(reply, Completion)
    assert server.requests["ONCE"] == 2


def test_an_answer_without_text_is_an_empty_completion(server: JudgeServer) -> None:
    (reply,) = client(server.url).ask([body("NULLTEXT")])
    assert isinstance(reply, Completion)
    assert reply.text == ""


def test_logprobs_are_read(server: JudgeServer) -> None:
    (reply,) = client(server.url).ask([{**body("hello"), "logprobs": True, "top_logprobs": 5}])
    assert isinstance(reply, Completion)
    assert reply.logprobs[0] == pytest.approx({"m": -0.6931, "M": -0.6931}, abs=1e-4)


def test_concurrency_is_bounded_and_used() -> None:
    with judge_server() as state:
        client(state.url, concurrency=3).ask([body("TOGETHER") for _ in range(6)])
        assert state.most_at_once == 3


def test_a_wrong_key_is_an_error_and_stops_the_rest() -> None:
    with judge_server() as state:
        with pytest.raises(PrefdeltaError, match=r"refuses the key .*bad key.*OPENAI_API_KEY"):
            client(state.url, concurrency=1).ask([body("FORBIDDEN")] + [body("good")] * 20)
        assert state.requests["FORBIDDEN"] == 1
        assert state.requests[""] <= 1


def test_the_key_is_sent(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    client(server.url).ask([body("good")])
    assert server.headers[-1]["authorization"] == "Bearer secret"


def test_a_dead_server_is_given_up() -> None:
    with socket.socket() as probe:  # a port where nobody listens
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    replies = client(f"http://127.0.0.1:{port}/v1", concurrency=2).ask([body("good")] * 100)
    kinds = [reply.kind for reply in replies if isinstance(reply, Refusal)]
    assert len(kinds) == 100
    assert 16 <= kinds.count("no connection") < 20
    assert kinds.count("not asked") == 100 - kinds.count("no connection")


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(PrefdeltaError, match="is no URL"):
        client(url).ask([body("good")])


def test_strange_text_can_be_sent(server: JudgeServer) -> None:
    replies = client(server.url).ask([body("\ud83d half a pair, \x00, \u2028"), body("x" * 3_000_000)])
    assert all(isinstance(reply, Completion) for reply in replies)


def test_an_interrupt_leaves_no_thread_asking(server: JudgeServer) -> None:
    """What Ctrl-C does: the call ends at once, and the threads send nothing more."""

    def interrupt(place: int, reply: object) -> None:
        raise KeyboardInterrupt

    before = sum(server.requests.values())
    with pytest.raises(KeyboardInterrupt):
        client(server.url, concurrency=2).ask([body("good")] * 500, interrupt)
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and "run" in thread.name:
            thread.join(2)
    assert sum(server.requests.values()) - before < 20
