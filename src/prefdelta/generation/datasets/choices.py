"""Multiple choice: how options are shown, and which letter is right."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from prefdelta.core.errors import PrefdeltaError


def letters(count: int) -> str:
    """The letters of ``count`` options: A, B, C, ...

    Raises:
        PrefdeltaError: there are more than 26.
    """
    if count > len(ascii_uppercase):
        raise PrefdeltaError(f"a question has {count} options; at most {len(ascii_uppercase)} have a letter.")
    return ascii_uppercase[:count]


def with_options(question: str, options: Sequence[str]) -> str:
    """A question with its lettered options, as in MMLU-Pro (Wang et al. 2024)."""
    lines = [f"{letter}. {option}" for letter, option in zip(letters(len(options)), options, strict=True)]
    return "\n".join([question, "Options:", *lines])
