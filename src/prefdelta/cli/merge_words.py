"""What the commands that merge are told in words: weights, scales and the method with its options.

Nothing here imports torch, which takes seconds: a command reads its words first, and a mistake in them is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.registry import checked_weights, configured
from prefdelta.merging.scale import RULES, Scale, check_scale


def check_method(name: str, options: Mapping[str, Any], count: int) -> None:
    """Check the name of a method, its options and the number of adapters.

    Raises:
        PrefdeltaError: there is no such method or option, or it does not take as many adapters.
    """
    configured(name, options, count)


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


def parse_scale(word: str | float, origin: str, otherwise: str) -> Scale:
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
