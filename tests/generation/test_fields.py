"""Asking servers that do not take every field, against a real one that refuses in many servers' words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefdelta.core.records import Item, Sample, read_rows
from prefdelta.generation.backends import server_sampler
from prefdelta.generation.completion import Completion, Refusal
from prefdelta.generation.fields import RequestFields
from prefdelta.generation.openai_client import ChatClient
from prefdelta.generation.responses import SERVER_NOTES, sample_responses
from prefdelta.recipe import Sampling, Server
from strict_server import Refuses, reasoning_model, strict_server

ASKED = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 9,
    "temperature": 0.0,
    "seed": 3,
    "top_k": -1,
}


def forbidden(body: dict[str, Any]) -> dict[str, Any] | None:
    """As FastAPI answers where a model forbids extra fields; all of them at once."""
    found = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": body[name]}
        for name in body.keys() - {"model", "messages", "max_tokens", "temperature"}
    ]
    return {"detail": found} if found else None


@pytest.mark.parametrize(
    ("refuses", "status", "taken"),
    [
        (reasoning_model, 400, {"model", "messages", "max_completion_tokens"}),
        (forbidden, 422, {"model", "messages", "max_tokens", "temperature"}),
    ],
)
def test_a_server_is_asked_with_the_fields_that_it_takes(refuses: Refuses, status: int, taken: set[str]) -> None:
    with strict_server(refuses, status) as (url, bodies):
        client = ChatClient(Server(url=url, model="m", concurrency=1))
        replies = client.ask([ASKED] * 3)
        assert [reply.text for reply in replies if isinstance(reply, Completion)] == ["[[A>B]]"] * 3
        assert bodies[-1].keys() == taken
        assert [body.keys() == taken for body in bodies[-3:]] == [True] * 3  # remembered: refused only once
        assert not +client.retried
    assert client.fields.changes.keys() == ASKED.keys() - taken


def test_fields_may_be_left_out_by_hand() -> None:
    with strict_server(lambda body: None) as (url, bodies):
        ChatClient(Server(url=url, model="m", omit=("seed", "temperature"))).ask([ASKED])
        assert bodies[0].keys() == {"model", "messages", "max_tokens", "top_k"}


@pytest.mark.parametrize(
    "told",
    [
        "max_tokens is too large: 9. This model supports at most 4.",
        "This model's maximum context length is 8 tokens, however you requested 9 (max_tokens) tokens.",
        "temperature must be between 0.1 and 1; use a supported value of temperature",
        "the prompt is not allowed",
        "the model does not support chat",
        "messages: unsupported role",
    ],
)
def test_a_refusal_of_the_request_itself_stands(told: str) -> None:
    with strict_server(lambda body: {"error": {"message": told}}) as (url, bodies):
        client = ChatClient(Server(url=url, model="m"))
        (reply,) = client.ask([ASKED])
        assert isinstance(reply, Refusal)
        assert told[:40] in reply.reason
        assert len(bodies) == 1
        assert not client.fields.changes


def test_a_server_that_takes_neither_spelling_ends_as_a_refusal() -> None:
    def refuses(body: dict[str, Any]) -> dict[str, Any] | None:
        name = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        return {"error": {"message": f"{name} is not supported", "param": name}}

    with strict_server(refuses) as (url, bodies):
        replies = ChatClient(Server(url=url, model="m", concurrency=1)).ask([ASKED] * 2)
        assert all(isinstance(reply, Refusal) for reply in replies)
        assert len(bodies) <= 4


def test_log_probabilities_may_be_left_out_together() -> None:
    fields = RequestFields()
    sent = {"messages": [], "logprobs": True, "top_logprobs": 5}
    assert fields.learn(sent, b'{"error": {"message": "logprobs is not supported", "param": "logprobs"}}')
    assert fields.adapted(sent) == {"messages": []}


def test_what_was_left_out_is_told_and_recorded(tmp_path: Path) -> None:
    items = [Item(f"i{n}", "t", ({"role": "user", "content": str(n)},)) for n in range(5)]
    with strict_server(forbidden, 422) as (url, _):
        sampler = server_sampler(
            Server(url=url, model="m", omit=("chat_template_kwargs",)), Sampling(temperature=0.5), None
        )
        with pytest.warns(UserWarning, match="does not take all fields: .*seed is left out"):
            sample_responses(items, sampler, tmp_path, seed=1)
    assert [row.text for row in read_rows(tmp_path / "responses.jsonl", Sample)] == ["[[A>B]]"] * 5
    notes = json.loads((tmp_path / SERVER_NOTES).read_text())
    assert {"seed", "top_k", "min_p"} < notes["fields"].keys()
