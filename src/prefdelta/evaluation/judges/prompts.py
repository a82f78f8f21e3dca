"""What a judge is asked: templates, ours and the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Message
from prefdelta.core.regular import regular

_ROLE = re.compile(r"<\|im_start\|>(system|user)\n(.*?)<\|im_end\|>", re.DOTALL)
_FIELD = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_PAIR_NAMES = {  # what other projects call the same three things
    "instruction": "question",
    "QUESTION": "question",
    "output_1": "answer_a",
    "ANSWER_A": "answer_a",
    "output_2": "answer_b",
    "ANSWER_B": "answer_b",
}


@dataclass(frozen=True)
class Template:
    """A system and a user message with ``{fields}``; an empty system message is left out."""

    system: str
    user: str

    def messages(self, fields: Mapping[str, str]) -> tuple[Message, ...]:
        """The messages with all fields put in. What is put in is never looked at for fields again."""
        filled = [(role, _fill(text, fields)) for role, text in (("system", self.system), ("user", self.user))]
        return tuple({"role": role, "content": text} for role, text in filled if text)


def pair_template(path: Path) -> Template:
    """A user's own template for comparing two answers.

    The file is the user message, or has both messages between ``<|im_start|>system`` (or ``user``) and
    ``<|im_end|>``. Its fields are ``{question}``, ``{answer_a}`` and ``{answer_b}``, or the names AlpacaEval and
    Arena-Hard have for them. Doubled braces stand for single ones.

    Raises:
        PrefdeltaError: the file cannot be read, or lacks a field.
    """
    try:
        text = regular(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdeltaError(f"cannot read the prompt {path}: {error}.") from error
    roles = dict(_ROLE.findall(text))
    template = Template(roles.get("system", "").strip(), (roles.get("user") or text).strip())
    names = {_PAIR_NAMES.get(name, name) for name in _FIELD.findall(template.system + template.user)}
    missing = {"question", "answer_a", "answer_b"} - names
    if missing:
        raise PrefdeltaError(f"the prompt {path} has no field {{{min(missing)}}}; it would not show the judge all.")
    return template


def _fill(text: str, fields: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        return fields.get(_PAIR_NAMES.get(match[1], match[1]), match[0])

    return _FIELD.sub(value, text)


LABELLED_PAIR = Template(
    system=(
        "You compare two answers to the same request and say which one serves the person who asked better.\n\n"
        "First work out for yourself what a good answer has to contain. Then go through both answers: is what they "
        "say correct, do they do what was asked, do they leave out something needed, do they add what nobody needs? "
        "Quote what is wrong before you call it wrong. Correctness and following the request come first, then "
        "usefulness, then clarity. Neither the order of the answers nor their length nor their formatting is a merit "
        "by itself.\n\n"
        "End with exactly one of these verdicts on a line of its own:\n"
        "[[A>>B]] A is clearly better\n"
        "[[A>B]] A is slightly better\n"
        "[[A=B]] both are about equally good\n"
        "[[B>A]] B is slightly better\n"
        "[[B>>A]] B is clearly better"
    ),
    user=(
        "<request>\n{question}\n</request>\n\n<answer_A>\n{answer_a}\n</answer_A>\n\n"
        "<answer_B>\n{answer_b}\n</answer_B>"
    ),
)
"""Ours, for ``arena`` and ``pairwise``: the five verdicts of Arena-Hard in our own words."""

LETTER_PAIR = Template(
    system="You tell which of two answers to an instruction a careful human reader would prefer.",
    user=(
        "An instruction and the answers of two models, called m and M, follow.\n\n"
        "<instruction>\n{question}\n</instruction>\n\n<answer_m>\n{answer_a}\n</answer_m>\n\n"
        "<answer_M>\n{answer_b}\n</answer_M>\n\n"
        "Which model gave the better answer? Reply with its name, m or M, and nothing else; mind the case."
    ),
)
"""Ours, for ``alpaca``: one letter, whose probability is the preference."""
