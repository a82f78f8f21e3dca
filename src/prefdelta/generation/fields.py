"""The fields of a chat completion request that a server refuses, and how to ask it all the same.

"OpenAI-compatible" servers differ in their fields: some know ``max_tokens`` and some ``max_completion_tokens``, some
take only temperature 1, some have no ``seed``, and strict ones refuse every field that they do not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_SPELLINGS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_OPTIONAL = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
)
"""Without these a request still asks for the same; only how tokens are drawn is then the server's choice."""

_UNKNOWN = re.compile(
    r"unsupport|not support|not (?:be )?(?:allow|permit|accept)|n[o']t (?:take|accept|allow|recogni[sz]|know)|unknown"
    r"|unrecogni[sz]ed|unexpected|extra|forbid|additional propert|invalid (?:field|param|argument|key)|instead|send "
    r"|only|deprecated|cannot be (?:set|used|specified)|must be 1\b",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"too (?:large|small|high|low|long|many)|less than|greater than|between|at (?:most|least)|exceed|maximum"
    r"|context length|out of range|[<>]=?",
    re.IGNORECASE,
)


class RequestFields:
    """What one server takes. ``changes`` tells, by field, what is done in place of sending it."""

    def __init__(self, omitted: Iterable[str] = ()) -> None:
        self.changes: dict[str, str] = dict.fromkeys(omitted, "left out")
        self._tried_spellings: set[str] = set()

    def adapted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request with the fields that the server takes."""
        found: dict[str, Any] = {}
        for name, value in body.items():
            change = self.changes.get(name)
            if change is None:
                found[name] = value
            elif name in _SPELLINGS and change != "left out":
                found[_SPELLINGS[name]] = value
        if "logprobs" not in found:
            found.pop("top_logprobs", None)
        return found

    def learn(self, sent: Mapping[str, Any], refusal: bytes) -> bool:
        """Learn from the body of a refusal (HTTP 400 or 422) of the request ``sent``.

        Returns:
            Whether another request than ``sent`` may now be taken.
        """
        text = refusal.decode("utf-8", errors="replace")
        learnt = False
        for name in _named(text, sent):
            if name in _SPELLINGS:
                learnt |= self._spell(name)
            elif name in _OPTIONAL:
                self.changes[name] = "left out"
                learnt = True
        return learnt

    def _spell(self, refused: str) -> bool:
        other = _SPELLINGS[refused]
        if other in self._tried_spellings:  # the server takes neither; the first refusal tells more
            self.changes.pop(other, None)
            return False
        self._tried_spellings.add(refused)
        self.changes[refused] = f"sent as {other}"
        return True

    def told(self) -> str:
        """The changes in words, for a message; empty if there are none."""
        return ", ".join(f"{name} is {change}" for name, change in sorted(self.changes.items()))


def _named(text: str, sent: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a request that its refusal says are not taken; a value out of range is not such a case."""
    told = [(name, why) for name, why in _structured(text) if name in sent]
    if not told:
        sentences = re.split(r"(?<=[.;!?])\s|\n", text)
        told = [(name, why) for name in sent for why in sentences if re.search(rf"\b{name}\b", why)]
    yield from dict.fromkeys(name for name, why in told if _UNKNOWN.search(why) and not _RANGE.search(why))


def _structured(text: str) -> Iterator[tuple[str, str]]:
    """The fields that a refusal names where OpenAI's (``param``) and FastAPI's (``loc``) layouts do, and why."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    if isinstance(error, dict) and isinstance(error.get("param"), str):
        yield error["param"], f"{error.get('message')} {error.get('code')}"
    detail = answer.get("detail") if isinstance(answer, dict) else None
    for problem in detail if isinstance(detail, list) else ():
        location = problem.get("loc") if isinstance(problem, dict) else None
        if isinstance(location, list) and location and isinstance(location[-1], str):
            yield location[-1], f"{problem.get('type')} {problem.get('msg')}"
