"""The one exception and the one warning that a user is meant to see."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MAX_MESSAGE = 1000
"""The most characters of a message."""


class PrefdeltaError(Exception):
    """Bad input or a refused operation, told in one sentence.

    The message names the file, key or module at fault and what to do about it. The command line prints it
    without a traceback and exits with code 2; a notebook sees an ordinary exception. It is one line; a long word of a
    stranger's file, and a long message, are cut in the middle.
    """

    def __init__(self, message: str) -> None:
        line = re.sub(r"\s*[\r\n]+\s*", " ", message)
        super().__init__(_cut(re.sub(r"\S{301,}", lambda word: _cut(word[0], 200), line), MAX_MESSAGE))


@contextmanager
def told_of(subject: str) -> Iterator[None]:
    """Begin the message of an error with what it is about: a key, a delta; with nothing, leave it as it is."""
    try:
        yield
    except PrefdeltaError as error:
        raise PrefdeltaError(f"{subject}: {error}" if subject else str(error)) from error


class PrefdeltaWarning(UserWarning):
    """Something that a user should know of, told in one sentence, while the work goes on."""


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    kept = (limit - 5) // 2
    return f"{text[:kept]} ... {text[-kept:]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to append to an error about an unknown name: the nearest known one, else the list of all."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}."
