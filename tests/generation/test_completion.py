"""What a chat completion says, in the layouts and with the faults of many servers."""

from __future__ import annotations

import base64
import gzip
import html
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from prefdelta.core.http import one_line, without
from prefdelta.generation.completion import Completion, Refusal, read_completion, read_failure


def body(content: Any = "4", finish: Any = "stop", *, choice: Any = None, message: Any = None, **top: Any) -> bytes:
    said = {"role": "assistant", "content": content, **(message or {})}
    whole = {"choices": [{"index": 0, "message": said, "finish_reason": finish, **(choice or {})}], **top}
    return json.dumps(whole).encode()


def completion(received: bytes, limit: int | None = None) -> Completion:
    reply = read_completion(received, limit=limit)
    assert isinstance(reply, Completion), reply
    return reply


def refusal(received: bytes) -> Refusal:
    reply = read_completion(received)
    assert isinstance(reply, Refusal), reply
    return reply


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        *((word, "stop") for word in ("stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "stop-token")),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens")),
        *((word, "length") for word in ("FINISH_REASON_MAX_TOKENS", "maxTokens", "max-tokens-reached", "length_limit")),
        *((word, "stop") for word in ("FinishReason.STOP", "StopReason.END_TURN", "stopSequence", "</s>")),
        *((word, "stop") for word in ("end-of-text", "stopped_eos", "eos_found", "finished", "<|im_end|>")),
        *((word, "length") for word in ("limit", "stopped_limit", "FinishReason.MAX_TOKENS")),
        *((word, "unknown") for word in (None, "", "whatever", 7, ["stop"], "tool")),
    ],
)
def test_only_known_words_say_that_an_answer_was_cut_off(word: Any, finish: str) -> None:
    assert completion(body(finish=word)).finish == finish


def test_what_the_model_s_own_server_said_counts_where_a_router_passes_it_on() -> None:
    assert completion(body(choice={"native_finish_reason": "MAX_TOKENS"})).finish == "length"
    assert completion(body(choice={"native_finish_reason": "completed"})).finish == "stop"
    assert completion(body(choice={"content_filter_results": {"hate": {"filtered": False}}})).text == "4"


def test_a_missing_reason_is_unknown_but_an_answer_of_all_tokens_was_cut_off() -> None:
    bare = json.dumps({"choices": [{"message": {"content": "4"}}], "usage": {"completion_tokens": 8}}).encode()
    assert completion(bare).finish == "unknown"
    assert completion(bare, limit=9).finish == "unknown"
    assert completion(bare, limit=8).finish == "length"
    assert completion(body("4", "stop", usage={"completion_tokens": 8}), limit=8).finish == "stop"


@pytest.mark.parametrize(
    ("received", "kind", "passing"),
    [
        (body("", "error", choice={"error": {"code": 502, "message": "upstream failed"}}), "server error", True),
        (body(None, None, error={"code": 429, "message": "upstream limits its rate"}), "server error", True),
        (body("half an ans", "error"), "server error", True),
        (body("half an ans", "abort"), "server error", True),
        (body("half an ans", "insufficient_system_resource"), "server error", True),
        (body("half an ans", choice={"native_finish_reason": "ERROR"}), "server error", True),
        (body("half an ans", choice={"native_finish_reason": "SAFETY"}), "content filter", False),
        (body("", choice={"content_filter_results": {"hate": {"filtered": True}}}), "content filter", False),
        (body("", message={"error": "lost the worker"}), "server error", True),
        (b'{"error": {"message": "too many requests", "code": 429}, "user_id": "u"}', "server error", True),
        (b'{"error": "busy"}', "server error", True),
        (b'{"error": {"message": "no such model", "code": 404}}', "server error", False),
        (b'{"error": {"message": "too long", "code": "context_length_exceeded"}}', "server error", False),
        (b'{"error": {"message": "try later", "code": "503"}}', "server error", True),
        (b'{"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}', "server error", False),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', "server error", True),
        (b'{"error": {"code": "content_policy_violation", "message": "no"}}', "content filter", False),
        (body("", "content_filter"), "content filter", False),
        (body("half of", "content_filter"), "content filter", False),
        (body("", "SAFETY"), "content filter", False),
        (body("half of", "content-filtered"), "content filter", False),
        (body("half of", "IMAGE_SAFETY"), "content filter", False),
        (body("", "blocked"), "content filter", False),
        (b'{"error": {"code": "data_inspection_failed", "message": "no"}}', "content filter", False),
        (body("half an ans", "network_error"), "server error", True),
        (body("", "whatever"), "no answer", False),
        (body(None, "tool_use"), "no answer", False),
        (body(None, message={"refusal": "I cannot help with that."}), "model refusal", False),
        (body(None, "tool_calls", message={"tool_calls": [{"id": "1"}]}), "tool call", False),
        (b'{"id": null, "choices": null, "usage": null}', "malformed", True),
        (b'{"choices": []}', "malformed", True),
        (b'{"choices": {}}', "malformed", True),
        (b'{"choices": [null]}', "malformed", True),
        (b'{"choices": [{"message": null, "finish_reason": "stop"}]}', "malformed", True),
        (b'{"choices": [{"message": {}, "finish_reason": "stop"}]}', "malformed", True),
        (body(7), "malformed", True),
        (body([7]), "malformed", True),
        (b"[]", "malformed", True),
        (b"null", "malformed", True),
        (b"", "malformed", True),
        (b"<html><body>502 Bad Gateway</body></html>", "malformed", True),
        (b'{"choices": [{"message": {"content": "4', "malformed", True),
        (b"[" * 100_000, "malformed", True),
        (b'{"a": ' + b"9" * 5000 + b"}", "malformed", True),
        (gzip.compress(b"{}", mtime=0), "malformed", True),
        (b"\xff\xfe{}", "malformed", True),
    ],
)
def test_what_is_no_answer_is_never_an_empty_one(received: bytes, kind: str, passing: bool) -> None:
    found = refusal(received)
    assert (found.kind, found.passing) == (kind, passing)
    assert len(found.reason) < 300
    assert "\n" not in found.reason


def test_a_filter_that_answers_with_another_status_is_a_filter() -> None:
    azure = b'{"error": {"code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicy"}}}'
    assert read_failure(400, azure).declined
    assert read_failure(400, b'{"error": {"message": "safety is a word"}}') == Refusal(
        'http 400: {"error": {"message": "safety is a word"}}'
    )
    assert read_failure(503, b"[" * 100_000).passing


def test_the_reason_is_the_servers() -> None:
    assert refusal(body("", "error", choice={"error": {"code": 502, "message": "upstream failed"}})).reason == (
        "server error: upstream failed (code 502)"
    )
    assert refusal(body(None, message={"refusal": "I cannot\nhelp."})).reason == "model refusal: I cannot help."


@pytest.mark.parametrize("count", ["null", "1e999", "NaN", "-3", '"5"', "true", "[]", "1" + "0" * 400, "{}"])
def test_a_strange_count_of_tokens_costs_no_answer(count: str) -> None:
    received = body(usage={"completion_tokens": "X"}).replace(b'"X"', count.encode())
    assert completion(received) == Completion("4", "stop", None)
    assert completion(body(usage=None)).tokens is None
    assert completion(body(usage=[1])).tokens is None
    assert completion(body(usage={"completion_tokens": 5.0})).tokens == 5


def test_thoughts_are_separated_as_the_server_marks_them() -> None:
    assert completion(body("4", message={"reasoning_content": "2+2"})).reasoning == "2+2"
    assert completion(body("4", message={"reasoning": "2+2"})).reasoning == "2+2"
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}, {"type": "text", "text": "4"}]
    assert completion(body(parts)) == Completion("4", "stop", reasoning="2+2")


def test_log_probabilities_are_read_or_none() -> None:
    def read(value: str) -> tuple[Any, ...]:
        token = {"token": "m", "logprob": "X", "top_logprobs": [{"token": "M", "logprob": -2}]}
        return completion(body(choice={"logprobs": {"content": [token]}}).replace(b'"X"', value.encode())).logprobs

    assert read("-0.5") == ({"m": -0.5, "M": -2.0},)
    assert read("-Infinity") == ({"m": -float("inf"), "M": -2.0},)
    for value in ("null", "NaN", "1e999", "3", '"-1"', "true", "[]", "1" + "0" * 400):
        assert read(value) == ()
    for strange in ([], "x", {"content": "x"}, {"content": [None]}, {"content": [{"token": "m"}]}):
        assert completion(body(choice={"logprobs": strange})).logprobs == ()


def test_a_key_that_the_server_repeats_is_blotted_out() -> None:
    key = "sk-0123456789"
    for received in (
        b"Bearer " + key.encode(),
        b" " * 150 + b"x" * 190 + key.encode(),
        b'{"error": {"message": "bad sk-\\u0030\\u0031\\u00323456789", "code": "sk-0123456789"}}',
        body(f"your key is {key}", message={"reasoning": key}),
        body(None, message={"refusal": key}),
        body(None, key),
    ):
        assert "sk-0" not in repr(read_completion(received, secret=key))


def test_a_key_is_blotted_out_in_every_spelling() -> None:
    key = 'sk-0123+4/5"6&7=89'
    spelt = [quote(key, safe=""), quote_plus(key).lower(), json.dumps(key)[1:-1], html.escape(key), key.encode().hex()]
    spelt += [f"{key[:7]}\n   {key[7:]}", key.upper(), key.replace("/", "\\/")]
    for user in ("", "u:", "me:", "Bearer "):
        spelt += [
            base64.b64encode(f"{user}{key}".encode()).decode(),
            base64.urlsafe_b64encode(f"{user}{key}x".encode()).decode(),
        ]
    for spelling in spelt:
        told = without(f"before {spelling} after", key)
        assert told.startswith("before "), told
        assert "***" in told, told
        assert len(told) <= len("before  after") + 16, told
        assert "***" in one_line(f"{spelling}", secret=key)
    assert without("an EMPTY answer of 0x", "x") == "an EMPTY answer of 0***"
