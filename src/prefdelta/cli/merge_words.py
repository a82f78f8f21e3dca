"""What the commands that merge are told in words: weights, scales and ranks.

Nothing here imports torch, which takes seconds: a command reads its words first, and a mistake in them is told at once.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.registry import checked_weights
from prefdelta.merging.scale import RULES, Calibration, Scale, Stored, check_scale


def parse_weights(text: str | None, count: int) -> list[float] | None:
    """Weights written with commas between them, one for each adapter.

    Raises:
        PrefdeltaError: a word is no finite number, or there are more or fewer.
    """
    if text is None:
        return None
    try:
        return checked_weights([float(word) for word in text.split(",")], count)
    except ValueError as error:
        raise PrefdeltaError(f"--weights {text!r} is not a comma-separated list of numbers.") from error


def parse_scale(word: str, origin: str, otherwise: str) -> Scale:
    """A number, or the name of a rule.

    Args:
        word: what was given.
        origin: the option with its value, to begin the message with.
        otherwise: what else the option takes, to end it.

    Raises:
        PrefdeltaError: it is neither.
    """
    for rule in RULES:
        if word == rule:
            return rule
    try:
        scale = float(word)
    except ValueError as error:
        raise PrefdeltaError(f"{origin} is neither a number nor {otherwise}.") from error
    check_scale(scale)
    return scale


def known_scale(word: str) -> Scale:
    """A scale that needs nothing but the adapters: a number or a rule.

    Raises:
        PrefdeltaError: it is neither.
    """
    return parse_scale(word, f"--scale {word!r}", "norm-matched nor projection; --into takes no other")


def wanted_scale(word: str) -> Scale | Calibration | Stored:
    """A scale, or what is to choose it.

    Raises:
        PrefdeltaError: it is neither.
    """
    for way in (*get_args(Calibration), *get_args(Stored)):
        if word == way:
            return cast(Calibration | Stored, way)
    return parse_scale(word, f"--scale {word!r}", "norm-matched, projection, stored, agreement or pairs")


def parse_rank(word: str) -> int | Literal["servable"] | None:
    """The rank to store a merge at; ``None`` for the one that it has.

    Raises:
        PrefdeltaError: it is no number above 0, nor one of the two words.
    """
    if word == "exact":
        return None
    if word == "servable":
        return "servable"
    if word.isdecimal():
        return int(word)
    raise PrefdeltaError(f"--rank {word!r} is neither a number nor exact nor servable.")
