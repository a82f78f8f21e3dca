"""Reading a chat completion: the answer, why it ended, token counts, log-probabilities; or why there is none.

Servers differ in their words, and some send an error with HTTP 200. What is no answer is never read as an empty one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from prefdelta.core.http import one_line, well_formed, without

Finish: TypeAlias = Literal["stop", "length", "unknown"]

# Finish reasons of OpenAI, vLLM, SGLang, TGI, llama.cpp, Anthropic, Gemini, Mistral, Cohere and Ollama, and what is
# written like them: servers that translate another's words add prefixes and suffixes.
_STOP = re.compile(
    "stop|stopped(_?(eos|word))?|stop_?(token|sequence|word|string)s?|eos(_?(token|found))?"
    "|end_?(of_?)?(turn|text|sequence|message)(_?token)?|completed?|done|finished|<.{1,40}>"
)
_LENGTH = re.compile("length|max_?[a-z_]*tokens|token_?limit|context_window|^(stopped_?)?limit$")
_FILTERED = re.compile(
    "content_?(filter|policy)|safety|moderation|guardrail|data_?inspection|recitation|^block|prohibited|spii|refusal"
    "|^sensitive|toxic"
)
_FAILED = re.compile("error|fail|abort|cancel|timeout|insufficient_?[a-z_]*resource")
_FOR_GOOD = frozenset({400, 401, 402, 403, 404, 405, 413, 414, 415, 422})
_FOR_GOOD_WORDS = re.compile(
    "invalid|context_length|not_found|unsupported|insufficient_quota|BadRequest", re.IGNORECASE
)
_CONTENT_FILTER, _MODEL_REFUSAL = "content filter", "model refusal"
_FILTER_WORDS = re.compile(
    "content_?(filter|policy)|safety|moderation|guardrail|data_?inspection|content exists risk", re.IGNORECASE
)


@dataclass(frozen=True)
class Completion:
    """What the model answered.

    Attributes:
        text: the answer; empty if the model wrote none.
        finish: why it ended: the model ended it, a limit did, or the server does not say (or in an unknown word).
        tokens: how many tokens it wrote, or ``None`` if the server does not say.
        reasoning: its thinking, where the server separates that from the answer.
        logprobs: for each token of the answer, the log-probs of the likeliest tokens, the token itself first; empty
            unless asked for.
    """

    text: str
    finish: Finish
    tokens: int | None = None
    reasoning: str = ""
    logprobs: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class Refusal:
    """No answer. ``reason`` begins with a word or two that group reasons (``timeout``, ``http 500``), then a colon.

    ``passing`` says that another try may do better.
    """

    reason: str
    passing: bool = False

    @property
    def kind(self) -> str:
        """The grouping word."""
        return self.reason.partition(":")[0]

    @property
    def declined(self) -> bool:
        """Whether a content filter or the model itself declines this question, as it would again."""
        return self.kind in (_CONTENT_FILTER, _MODEL_REFUSAL)


Reply: TypeAlias = Completion | Refusal


def read_completion(received: bytes, *, limit: int | None = None, secret: str | None = None) -> Reply:
    """The reply in the body of an HTTP 200.

    Args:
        received: the body, in OpenAI's layout or anything else.
        limit: the most tokens that were asked for: an answer of so many, whose end the server does not name, was cut.
        secret: is blotted out wherever the server repeats it.
    """
    try:
        answer = json.loads(received)
    except (ValueError, RecursionError) as error:
        found = type(error).__name__
        return Refusal(f"malformed: {found} in {one_line(received, secret=secret)}", passing=True)
    try:
        return _error_in(answer, secret) or _read(answer, limit, secret)
    except _MalformedError as error:
        return Refusal(f"malformed: {error} in {one_line(received, secret=secret)}", passing=True)


class _MalformedError(ValueError):
    """Not the layout of a chat completion."""


def read_failure(status: int, received: bytes, *, secret: str | None = None) -> Refusal:
    """Why there is no reply, from the body of another HTTP status; some content filters answer with HTTP 400."""
    try:
        found = _error_in(json.loads(received), secret)
    except (ValueError, RecursionError):
        found = None
    if found is not None and found.declined:
        return found
    passing = status >= 500 or status in (408, 409, 425, 429)
    return Refusal(f"http {status}: {one_line(received, secret=secret)}", passing)


def _read(answer: Any, limit: int | None, secret: str | None) -> Reply:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _MalformedError("no choices")
    choice = choices[0]
    message = choice.get("message")
    word = _finish_word(choice.get("finish_reason"))
    if failed := _error_in(choice, secret) or (_error_in(message, secret) if isinstance(message, dict) else None):
        return failed
    # A router's own word may hide what the model's server said, which it passes on beside it.
    for said in (word, _finish_word(choice.get("native_finish_reason"))):
        if _FILTERED.search(said):
            return Refusal(f"{_CONTENT_FILTER}: the server ended the answer with {said!r}")
        if _FAILED.search(said):
            return Refusal(f"server error: the server ended the answer with {said!r}", passing=True)
        if _LENGTH.search(said):
            word = said
    if not isinstance(message, dict) or "content" not in message:
        raise _MalformedError("no content")
    text, thought = _text(message["content"])
    if not text and isinstance(refused := message.get("refusal"), str) and refused:
        return Refusal(f"{_MODEL_REFUSAL}: {one_line(refused, secret=secret)}")
    if not text and (hit := _filtered(choice.get("content_filter_results"))):
        return Refusal(f"{_CONTENT_FILTER}: the server left the answer out ({hit})")
    if not text and (message.get("tool_calls") or message.get("function_call")):
        return Refusal("tool call: the model called a tool and gave no answer")
    reasoning = thought or message.get("reasoning_content") or message.get("reasoning")
    if word and not (text or reasoning) and not _STOP.fullmatch(word) and not _LENGTH.search(word):
        return Refusal(f"no answer: the server ended an empty answer with {word!r}")
    usage = answer.get("usage")
    tokens = _count(usage.get("completion_tokens")) if isinstance(usage, dict) else None
    return Completion(
        text=without(well_formed(text), secret),
        finish=_finish(word, tokens, limit),
        tokens=tokens,
        reasoning=without(well_formed(reasoning), secret) if isinstance(reasoning, str) else "",
        logprobs=_logprobs(choice.get("logprobs"), secret),
    )


def _error_in(part: Any, secret: str | None) -> Refusal | None:
    """The error that a part of an answer carries in place of, or beside, what was asked for."""
    if not isinstance(part, dict):
        return None
    error = part.get("error") or (part if part.get("object") == "error" or part.get("type") == "error" else None)
    if not error:
        return None
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
    told = one_line(str(fields.get("message") or json.dumps(fields)), secret=secret)
    code = fields.get("code", fields.get("status"))
    number = int(code) if isinstance(code, str) and re.fullmatch("[1-5][0-9][0-9]", code) else _count(code)
    words = f"{code} {fields.get('type')}"
    if _FILTER_WORDS.search(words):
        return Refusal(f"{_CONTENT_FILTER}: {told}")
    passing = number not in _FOR_GOOD and not _FOR_GOOD_WORDS.search(words)
    return Refusal(f"server error: {told}" + (f" (code {number})" if number else ""), passing)


def _finish_word(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    word = re.sub("(?<=[a-z])(?=[A-Z])|[- ]", "_", value.strip()[:60]).lower()
    return re.sub(r"^(?:finish|stop)_?reason[_.]", "", word)  # as enumerations are written


def _filtered(results: Any) -> str:
    """What Azure's content filter found in an answer; empty if nothing."""
    found = results.items() if isinstance(results, dict) else ()
    return ", ".join(str(name)[:40] for name, hit in found if isinstance(hit, dict) and hit.get("filtered") is True)


def _finish(word: str, tokens: int | None, limit: int | None) -> Finish:
    if _STOP.fullmatch(word):
        return "stop"
    if _LENGTH.search(word) or (limit is not None and tokens is not None and tokens >= limit):
        return "length"
    return "unknown"


def _text(content: Any) -> tuple[str, str]:
    """The answer and the thinking in a message's content: a text, nothing, or a list of typed parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _MalformedError("content is no text")
    said, thought = "", ""
    for part in content:
        text = part.get("text") or part.get("thinking") or ""
        if isinstance(text, list):
            text = _text(text)[0]
        if not isinstance(text, str):
            raise _MalformedError("content is no text")
        if part.get("type") in ("thinking", "reasoning"):
            thought += text
        else:
            said += text
    return said, thought


def _count(value: Any) -> int | None:
    """A whole number from 0 to 2^53; ``None`` for anything else (null, NaN, 1e999, text)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2**53:
        return None
    return int(value)


def _logprobs(given: Any, secret: str | None) -> tuple[Mapping[str, float], ...]:
    """The likeliest tokens of each place; nothing if any of it is not as OpenAI has it."""
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, list):
        return ()
    try:
        return tuple(_likeliest(token, secret) for token in content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ()


def _likeliest(token: Mapping[str, Any], secret: str | None) -> Mapping[str, float]:
    """The log-prob of the sampled token, which a server may leave out of the likeliest, and of each of these."""
    listed: Sequence[Mapping[str, Any]] = token.get("top_logprobs") or ()
    return {without(well_formed(entry["token"]), secret): _logprob(entry["logprob"]) for entry in (token, *listed)}


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no log-probability")
    number = float(value)
    if math.isnan(number) or number > 1e-3:  # above 0 by rounding at the most
        raise ValueError("no log-probability")
    return min(number, 0.0)
