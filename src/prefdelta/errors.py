"""The one exception a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PrefdeltaError(Exception):
    """Bad input or a refused operation, told in one sentence.

    The message names the file, key or module at fault and what to do about it. The command line prints it
    without a traceback and exits with code 2; a notebook sees an ordinary exception.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to append to an error about an unknown name: the nearest known one, else the list of all."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}."
