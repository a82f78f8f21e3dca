"""Names that become folders: which are accepted in a recipe, and how one is made from a path or a model id.

A name that passes here is one folder on every file system: it has no separators, cannot climb (``..``) or hide
(``.git``), and is no device of Windows. Since some file systems ignore case, two names that differ only in case count
as one name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator

MAX_NAME = 100
"""The most characters of a name; all are ASCII, so that it is also the number of bytes."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}


def plain_name(name: Any) -> str:
    """The same name, if it can be the name of a folder everywhere.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is read as {type(name).__name__}; put the name in quotes")
    shown = name if len(name) <= MAX_NAME else f"{name[:20]}..."
    if len(name) > MAX_NAME:
        raise ValueError(f"the name {shown!r} has {len(name):,} characters; {MAX_NAME} are allowed")
    if not _PLAIN.fullmatch(name) or name.endswith("."):
        raise ValueError(
            f"{shown!r} cannot be the name of a folder; use letters, digits, '.', '_' and '-', a letter or digit first "
            "and no '.' last"
        )
    if _is_device(name):
        raise ValueError(f"{shown!r} is the name of a device on Windows; choose another")
    return name


PlainName = Annotated[str, BeforeValidator(plain_name)]
"""The type of names in a recipe that become folders."""

OptionalName = Annotated[str | None, BeforeValidator(lambda name: None if name is None else plain_name(name))]
"""The same where a name may be left out."""


def plain_label(text: str) -> str:
    """A plain name made from any text, such as a model id: the same text always gives the same name.

    >>> plain_label("Qwen3 4B (chat)")
    'Qwen3-4B-chat'
    """
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-") or "unnamed"
    if len(label) > MAX_NAME:
        mark = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
        label = f"{label[: MAX_NAME - 9]}-{mark}"
    return f"x-{label}" if _is_device(label) else label


def refuse_repeated(kind: str, names: Iterable[str]) -> None:
    """Raise ValueError if two names are the same, or are the same but for case."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.get(name.casefold())
        if first == name:
            raise ValueError(f"{kind} name {name!r} is used twice; names must differ")
        if first is not None:
            raise ValueError(
                f"{kind} names {first!r} and {name!r} differ only in case; some file systems take them for one"
            )
        seen[name.casefold()] = name


def refuse_alike(kind: str, numbers: Iterable[float]) -> None:
    """Raise ValueError if two numbers are the same, or are the same in six digits, as tables and folders show them."""
    seen: dict[str, float] = {}
    for number in numbers:
        shown = str(number) if isinstance(number, int) else f"{number:g}"
        if shown in seen:
            alike = "is given twice" if seen[shown] == number else f"and {number!r} are shown alike"
            raise ValueError(f"{kind} {seen[shown]!r} {alike}; keep one")
        seen[shown] = number


def _is_device(name: str) -> bool:
    return name.partition(".")[0].lower() in _DEVICES
