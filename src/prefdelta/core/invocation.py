"""The command that makes an output, as its manifest tells it: what was given, without machine paths or secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePosixPath

_given: ContextVar[tuple[str, ...]] = ContextVar("_given", default=())
_OUTPUTS = ("-o", "--output", "--json")
_WHOLE = ("-o", "--output=", "--json=")
_ABSOLUTE = re.compile(r"(^|[=:])(/(?!/).*)$", re.DOTALL)
_ADDRESS = re.compile(r"(\b\w+://)([^\s/@]*@)?([^\s?#]*)([?#]\S*)?")


@contextmanager
def invoked(words: Sequence[str]) -> Iterator[None]:
    """While it is open, ``words`` (without the program's name) are the command that is at work."""
    token = _given.set(told(words))
    try:
        yield
    finally:
        _given.reset(token)


def command() -> tuple[str, ...]:
    """The words of the command that is at work, as :func:`told` tells them; none outside of the command line."""
    return _given.get()


def told(words: Sequence[str]) -> tuple[str, ...]:
    """What of a command may be kept: all that decides its result.

    Where the output goes is left out, so that equal results are equal bytes. An absolute path is told by its last part,
    an address without user, password and query.
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _OUTPUTS:
            next(rest, None)
        elif word != "--overwrite" and not word.startswith(_WHOLE):
            kept.append(_ADDRESS.sub(r"\1\3", _ABSOLUTE.sub(_last_part, word)))
    return tuple(kept)


def _last_part(match: re.Match[str]) -> str:
    return match[1] + PurePosixPath(match[2]).name
