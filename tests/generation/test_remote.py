"""Sampling through a real HTTP server that misbehaves: what is finished is never lost, and trouble is counted."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server import HANG, ChatServer, chat_server
from prefdelta.agent import Environment
from prefdelta.agent.retrieval import Bm25Index
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document, Item, Sample, Span, read_rows
from prefdelta.generation.backends import server_sampler
from prefdelta.generation.request import requests_for
from prefdelta.generation.responses import sample_responses
from prefdelta.generation.server import RemoteSampler
from prefdelta.recipe import Sampling, Search, Server

SAMPLING = Sampling(temperature=0.7, top_k=5, max_new_tokens=9)
PASSING = ("CRASH", "BUSY", "RESET", "TORN", "SHORT", "HANG")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as state:
        yield state


def _items(*questions: str) -> list[Item]:
    return [Item(f"i{place}", "t", ({"role": "user", "content": text},)) for place, text in enumerate(questions)]


def _sampler(server: ChatServer, environment: Environment | None = None, **settings: Any) -> RemoteSampler:
    patience = {"timeout": 30.0, "attempts": 3, "concurrency": 4}
    return server_sampler(Server(url=server.url, model="m", **{**patience, **settings}), SAMPLING, environment)


def _texts(folder: Path) -> list[str]:
    return [row.text for row in read_rows(folder / "responses.jsonl", Sample)]


def test_every_answer_is_asked_for_with_a_seed_of_its_own(server: ChatServer, tmp_path: Path) -> None:
    items = _items("one", "long two")
    sample_responses(items, _sampler(server, thinking=True), tmp_path, seed=1, n=2)
    rows = read_rows(tmp_path / "responses.jsonl", Sample)
    requests = requests_for(items, 1, 2)
    assert [row.text for row in rows] == [
        f"{request.item.messages[0]['content']}|{request.seed % 2**31}" for request in requests
    ]
    assert [(row.item, row.index) for row in rows] == [("i0", 0), ("i0", 1), ("i1", 0), ("i1", 1)]
    assert [row.finish for row in rows] == ["stop", "stop", "length", "length"]
    assert all(row.thinking and row.tokens == 7 for row in rows)
    body = server.bodies[0]
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert (body["model"], body["temperature"], body["top_k"], body["max_tokens"]) == ("m", 0.7, 5, 9)


def test_the_openai_dialect_sends_nothing_of_vllms(server: ChatServer, tmp_path: Path) -> None:
    sample_responses(_items("one"), _sampler(server, dialect="openai"), tmp_path, seed=1)
    assert set(server.bodies[0]) == {"model", "messages", "temperature", "top_p", "seed", "max_completion_tokens"}


@pytest.mark.parametrize("word", PASSING)
def test_passing_trouble_costs_nothing_and_is_told(server: ChatServer, tmp_path: Path, word: str) -> None:
    sampler = _sampler(server, **({"timeout": HANG / 3} if word == "HANG" else {}))
    with pytest.warns(UserWarning, match="tried again after .* x1"):
        sample_responses(_items("one", f"{word} two", "three"), sampler, tmp_path, seed=1)
    assert [text.partition("|")[0] for text in _texts(tmp_path)] == ["one", f"{word} two", "three"]
    assert sorted(server.tries.values()) == [1, 1, 2]


def test_a_server_may_ask_for_patience(server: ChatServer, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.warns(UserWarning, match="http 429 x1"):
        sample_responses(_items("BUSY two"), _sampler(server), tmp_path, seed=1)
    assert time.monotonic() - begun >= 0.2


def test_what_is_refused_is_named_and_the_rest_is_kept(server: ChatServer, tmp_path: Path) -> None:
    items = _items("one", "NEVER two", "three", "TOOLONG four", "five")
    with (
        pytest.warns(UserWarning, match="http 500 x2"),
        pytest.raises(PrefdeltaError, match=r"2 of 5 requests \(http 400 x1, http 500 x1\).* run again") as told,
    ):
        sample_responses(items, _sampler(server), tmp_path, seed=1)
    assert "'i1'" in str(told.value) or "'i3'" in str(told.value)
    kept = [json.loads(line)["value"]["item"] for line in (tmp_path / "answers.kept-rows").read_text().splitlines()]
    assert sorted(kept) == ["i0", "i2", "i4"]
    assert not (tmp_path / "responses.jsonl").exists()
    with (
        pytest.warns(UserWarning, match="http 500 x2"),
        pytest.raises(PrefdeltaError, match="2 of 2 requests"),
    ):
        sample_responses(items, _sampler(server), tmp_path, seed=1)
    tries = {asked.split()[0]: count for (asked, _), count in server.tries.items()}
    assert tries == {"one": 1, "three": 1, "five": 1, "NEVER": 6, "TOOLONG": 2}


def test_what_a_server_declines_is_left_out_named_and_not_asked_again(server: ChatServer, tmp_path: Path) -> None:
    items = _items("one", "FILTER two", "three", "DECLINE four", "NEVER five")
    with (
        pytest.warns(UserWarning, match="tried again"),
        pytest.raises(PrefdeltaError, match=r"1 of 5 requests \(http 500 x1\)"),
    ):
        sample_responses(items, _sampler(server), tmp_path, seed=1)
    with pytest.warns(UserWarning, match=r"declined 2 of 4 requests; the first was to the item 'i1': content filter: "):
        sample_responses(items[:4], _sampler(server), tmp_path, seed=1)
    assert [text.partition("|")[0] for text in _texts(tmp_path)] == ["one", "three"]
    rows = [json.loads(line) for line in (tmp_path / "declined.jsonl").read_text().splitlines()]
    assert [(row["item"], row["index"], row["reason"].partition(":")[0]) for row in rows] == [
        ("i1", 0, "content filter"),
        ("i3", 0, "model refusal"),
    ]
    tries = {asked.split()[0]: count for (asked, _), count in server.tries.items()}
    assert tries == {"one": 1, "FILTER": 1, "three": 1, "DECLINE": 1, "NEVER": 3}
    assert {path.name for path in tmp_path.iterdir()} == {"responses.jsonl", "declined.jsonl"}
    with pytest.raises(PrefdeltaError, match=r"declined 1 of 1 requests.*There is no answer at all"):
        sample_responses(items[1:2], _sampler(server), tmp_path / "none", seed=1)
    assert not (tmp_path / "none" / "responses.jsonl").exists()


def test_a_dead_server_is_given_up_and_a_later_run_asks_only_for_the_rest(server: ChatServer, tmp_path: Path) -> None:
    items = _items(*(f"q{number}" for number in range(100)))

    def fail_after(done: int, total: int) -> None:
        server.down = done >= 40

    with (
        pytest.warns(UserWarning, match="http 500"),
        pytest.raises(PrefdeltaError, match="not asked"),
    ):
        sample_responses(items, _sampler(server), tmp_path, seed=1, progress=fail_after)
    finished = len((tmp_path / "answers.kept-rows").read_text().splitlines())
    assert 40 <= finished < 60
    server.down = False
    server.tries.clear()
    sample_responses(items, _sampler(server), tmp_path, seed=1)
    assert len(server.tries) == 100 - finished
    assert [text.partition("|")[0] for text in _texts(tmp_path)] == [f"q{number}" for number in range(100)]


def test_an_interrupt_leaves_what_is_there(server: ChatServer, tmp_path: Path) -> None:
    items = _items(*(f"q{number}" for number in range(60)))

    def interrupt(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_responses(items, _sampler(server), tmp_path, seed=1, progress=interrupt)
    assert len((tmp_path / "answers.kept-rows").read_text().splitlines()) == 20
    sample_responses(items, _sampler(server), tmp_path, seed=1)
    assert len(_texts(tmp_path)) == 60


def test_the_rate_is_kept(server: ChatServer, tmp_path: Path) -> None:
    begun = time.monotonic()
    sample_responses(_items(*"abcdef"), _sampler(server, per_minute=1200), tmp_path, seed=1)
    assert time.monotonic() - begun >= 5 * 60 / 1200


def _environment(**settings: Any) -> Environment:
    corpus = [Document("oslo", "mia was born in oslo"), Document("lima", "leo was born in lima")]
    return Environment(Bm25Index(corpus, top_k=1), Search(corpus="given", top_k=1, max_turns=2, **settings))


@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_a_search_conversation_keeps_its_spans(server: ChatServer, tmp_path: Path, dialect: str) -> None:
    sample_responses(
        _items("where was mia born", "plain"), _sampler(server, _environment(), dialect=dialect), tmp_path, seed=1
    )
    searched, plain = read_rows(tmp_path / "responses.jsonl", Sample)
    shown = "<information>mia was born in oslo</information>"
    assert searched.spans == (
        Span("let me see <search>mia born</search>"),
        Span(shown, "environment"),
        Span("<answer>oslo</answer>"),
    )
    assert (searched.finish, searched.tokens) == ("stop", 14)
    assert plain.spans == (Span("no search needed"),)
    second = next(body for body in server.bodies if shown in body["messages"][-1]["content"])
    if dialect == "vllm":
        assert second["messages"][-1] == {"role": "assistant", "content": searched.spans[0].text + shown}
        assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    else:
        assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
        assert "continue_final_message" not in second


def test_search_limits_that_need_the_models_tokens_are_refused(server: ChatServer, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"search\.window .* set it to null"):
        _sampler(server, _environment(protocol="search_r1"))  # whose own window is 4,096
    _sampler(server, _environment(protocol="search_r1", window=None))
    with pytest.raises(PrefdeltaError, match="`tokenizer`"):
        sample_responses(_items("mia"), _sampler(server, _environment(passage_tokens=5)), tmp_path, seed=1)


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="is no URL"):
        sample_responses(_items("one"), server_sampler(Server(url="nowhere", model="m"), SAMPLING, None), tmp_path, 1)


def test_no_trouble_no_warning(server: ChatServer, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample_responses(_items("one"), _sampler(server), tmp_path, seed=1)
