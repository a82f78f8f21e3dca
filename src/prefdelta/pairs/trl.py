"""Pairs as TRL's preference rows, and back: columns ``prompt``, ``chosen``, ``rejected``.

Conversational rows hold messages, standard rows plain text. TRL has no notion of text that a model only read, of an
answer that was cut off, or of tokens counted: search results become part of the answer there, and every answer is
taught to end. What it leaves out is kept in one more column, ``prefdelta``, which TRL ignores, so that a row that comes
back unchanged is the pair it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Message, Pair, Sample, Span, row_from, to_json
from prefdelta.core.thoughts import holds_thought

OWN = "prefdelta"
KNOWN = frozenset({"id", "task", "prompt", "chosen", "rejected", "chat_template_kwargs", "tools", OWN})
Form = Literal["conversational", "standard"]

_SWITCH = "enable_thinking"
_PROMPTS = ("question", "instruction", "query", "input")  # what other layouts call the prompt
_SPEAKER = re.compile(r"\r?\n\r?\n(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SYSTEM = re.compile(r"\s*System:(.*?)(?=\r?\n\r?\n(?:Human|Assistant):)", re.DOTALL)
_WORD = re.compile(r"[^\W_]{2}")
_ROLES = ("system", "developer", "user", "assistant", "tool")


def to_trl(pair: Pair, form: Form = "conversational") -> dict[str, Any]:
    """A pair as one of TRL's rows.

    Raises:
        PrefdeltaError: the row is to be plain text, and the prompt is more than one user message, or the answers were
            sampled in thinking mode, which plain text cannot say.
    """
    whole = {"id": pair.id, "task": pair.task, OWN: to_json(pair)}
    if form == "conversational":
        return {
            **whole,
            "prompt": [dict(message) for message in pair.prompt],
            "chosen": [{"role": "assistant", "content": pair.chosen.text}],
            "rejected": [{"role": "assistant", "content": pair.rejected.text}],
            "chat_template_kwargs": {_SWITCH: pair.chosen.thinking},
        }
    if len(pair.prompt) != 1 or pair.prompt[0]["role"] != "user" or pair.chosen.thinking:
        raise PrefdeltaError(
            f"the pair {pair.id!r} is a conversation or was sampled in thinking mode; plain text cannot hold that: "
            "export it as conversational rows."
        )
    return {
        **whole,
        "prompt": pair.prompt[0]["content"],
        "chosen": pair.chosen.text,
        "rejected": pair.rejected.text,
    }


def from_trl(row: Mapping[str, Any], name: str) -> Pair:
    """One of TRL's rows as a pair.

    A row without ``prompt`` has it at the beginning of both answers, as TRL allows. A plain prompt becomes one user
    message, or the turns of a dialogue (hh-rlhf). Answers are taken to have ended by themselves. A row whose answers
    hold thoughts was given in thinking mode, unless it says otherwise: then it is refused.

    Args:
        row: the row.
        name: what it is called if it has no ``id``.

    Raises:
        PrefdeltaError: a column is missing or of the wrong kind, or the row has something that a pair cannot hold:
            tools, several messages in an answer, another switch of the chat template.
    """
    for column in ("chosen", "rejected"):
        if not isinstance(row.get(column), str | list | tuple):
            raise PrefdeltaError(f"{name}: the column {column!r} holds neither text nor messages.")
    if row.get("tools"):
        raise PrefdeltaError(f"{name}: rows with tools cannot be imported.")
    prompt, chosen, rejected = _parts(row, name)
    thinking = _thinking(row.get("chat_template_kwargs") or {}, name)
    if holds_thought(chosen) or holds_thought(rejected):
        if thinking is False:
            raise PrefdeltaError(f"{name}: an answer holds a thought, though {_SWITCH} is false.")
        thinking = True
    known = str(row.get("id") or name)

    def sample(text: str) -> Sample:
        return Sample(known, (Span(text),) if text else (), "stop", tokens=0, thinking=bool(thinking))

    pair = Pair(known, str(row.get("task") or "imported"), prompt, sample(chosen), sample(rejected))
    return _restored(pair, row, name)


def _parts(row: Mapping[str, Any], name: str) -> tuple[tuple[Message, ...], str, str]:
    if isinstance(row["chosen"], str):
        prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
        if prompt is None and isinstance(rejected, str) and _is_dialogue(chosen) and _is_dialogue(rejected):
            return _answered([_turns(chosen), _turns(rejected)], name)
        if prompt is None:
            other = next((column for column in _PROMPTS if row.get(column)), None)
            if other is not None:
                raise PrefdeltaError(f"{name}: there is no column 'prompt', but {other!r}; rename it to 'prompt'.")
            prompt, chosen, rejected = _split_texts(chosen, rejected)
        if not isinstance(prompt, str) or not isinstance(rejected, str):
            raise PrefdeltaError(f"{name}: prompt, chosen and rejected must all be text, or all be messages.")
        if _is_dialogue(prompt):
            asked = [turn for turn in _turns(prompt) if turn["content"]]  # the answer's own heading comes last
            return tuple(asked), chosen.strip(), rejected.strip()
        return ({"role": "user", "content": prompt},), chosen, rejected
    sides = [_messages(row[column], f"{name}, {column}") for column in ("chosen", "rejected")]
    given = row.get("prompt")
    # As in TRL, whole conversations beside a prompt in plain text (UltraFeedback) hold the prompt themselves.
    if given is None or (isinstance(given, str) and min(map(len, sides)) > 1):
        return _answered(sides, name)
    asked = _messages(given, f"{name}, prompt")
    return _answered(sides, name, asked) if asked else _answered(sides, name)


def _answered(
    sides: list[list[Message]], name: str, asked: list[Message] | None = None
) -> tuple[tuple[Message, ...], str, str]:
    """Prompt and answers; without a prompt, it is the messages with which both sides begin."""
    if asked is None:
        shared = 0
        while shared < min(map(len, sides)) and sides[0][shared] == sides[1][shared]:
            shared += 1
        # Identical answers share everything; the last message of each is the answer all the same.
        shared = min(shared, *(len(side) - 1 for side in sides))
        asked, sides = sides[0][:shared], [side[shared:] for side in sides]
    for column, side in zip(("chosen", "rejected"), sides, strict=True):
        if len(side) != 1 or side[0]["role"] != "assistant":
            raise PrefdeltaError(f"{name}: {column!r} is not one assistant message, as a pair's answer is.")
    if not asked:
        raise PrefdeltaError(f"{name}: nothing is asked; a pair needs a prompt.")
    if asked[-1]["role"] == "assistant":
        raise PrefdeltaError(f"{name}: the prompt ends with the assistant's turn, to which there is no answer.")
    return tuple(asked), _text(sides[0]), _text(sides[1])


def _is_dialogue(text: str) -> bool:
    """Whether a text is a dialogue as hh-rlhf writes it (arXiv 2204.05862)."""
    return _SPEAKER.match(f"\n\n{text.lstrip()}") is not None or _SYSTEM.match(text) is not None


def _turns(text: str) -> list[Message]:
    """The turns of such a dialogue."""
    system = _SYSTEM.match(text)
    _, *parts = _SPEAKER.split(text[system.end() :] if system else f"\n\n{text.lstrip()}")
    first = [{"role": "system", "content": system[1].strip()}] if system else []
    return first + [
        {"role": _SPEAKERS[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _text(side: Sequence[Message]) -> str:
    return side[0]["content"]


def _messages(value: Any, where: str) -> list[Message]:
    if not isinstance(value, list | tuple):
        raise PrefdeltaError(f"{where}: prompt, chosen and rejected must all be text, or all be messages.")
    found: list[Message] = []
    for message in value:
        # Columnar files give every message every key; an absent one is None.
        given = {key: entry for key, entry in message.items() if entry is not None} if isinstance(message, dict) else {}
        if set(given) != {"role", "content"} or not all(isinstance(entry, str) for entry in given.values()):
            raise PrefdeltaError(f"{where}: a message is not just a role and a text: {to_json(message)[:200]}.")
        if given["role"] not in _ROLES:
            raise PrefdeltaError(f"{where}: a message of {given['role'][:40]!r}, which is none of {', '.join(_ROLES)}.")
        found.append(given)
    return found


def _split_texts(chosen: str, rejected: Any) -> tuple[str, str, Any]:
    """The beginning that both texts share, by TRL's rule: up to the difference, a space before it not included.

    Unlike there, a word is not cut: answers that differ inside of one begin with it.
    """
    if not isinstance(rejected, str):
        return "", chosen, rejected
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    inside = all(_WORD.match(text[shared - 1 : shared + 1]) for text in (chosen, rejected)) if shared else False
    while inside and shared and chosen[shared - 1].isalnum():
        shared -= 1
    if shared and chosen[shared - 1] == " ":
        shared -= 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _thinking(switches: Any, name: str) -> bool | None:
    given = {key: value for key, value in dict(switches).items() if value is not None}
    if set(given) - {_SWITCH}:
        raise PrefdeltaError(
            f"{name}: chat_template_kwargs has {min(set(given) - {_SWITCH})!r}; only {_SWITCH} is known."
        )
    thinking = given.get(_SWITCH)
    if not isinstance(thinking, bool | None):
        raise PrefdeltaError(f"{name}: {_SWITCH} is {to_json(thinking)[:60]}, not true or false.")
    return thinking


def _restored(pair: Pair, row: Mapping[str, Any], name: str) -> Pair:
    """The pair as it was exported, if the row still says the same; its task is what the row says now."""
    own = row.get(OWN)
    if own is None:
        return pair
    try:
        before = row_from(json.loads(own), Pair)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PrefdeltaError(f"{name}: the column {OWN!r} is damaged ({error}); delete the column.") from error
    same = (
        (before.id, before.prompt) == (pair.id, pair.prompt)
        and (before.chosen.text, before.rejected.text) == (pair.chosen.text, pair.rejected.text)
        and before.chosen.thinking == pair.chosen.thinking
    )
    return replace(before, task=pair.task if row.get("task") else before.task) if same else pair
