"""Names as messages and files show them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

_KEPT = "\n\t\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"


def public_name(base_model: str | None) -> str | None:
    """A base model's name without the folders of the machine it lay on; a name on the Hub stays as it is."""
    if base_model is None:
        return None
    # A hub name has at most one slash and no drive or leading slash; PureWindowsPath splits on both kinds of slash.
    path = PureWindowsPath(base_model)
    on_hub = 1 <= len(path.parts) <= 2 and not path.anchor and path.parts[0] != ".."
    return base_model if on_hub else path.name or None


def one_line(text: str) -> str:
    """A name as one line of printable characters, for the front matter of a card or a place between backticks."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).replace("`", "'").split())


def markdown(text: str) -> str:
    """A name as plain text of Markdown, also in a cell of a table: no character of it is markup or HTML."""
    return re.sub(r"([\\*\[\]<>|&~$!#])", r"\\\1", one_line(text))


def visible(text: str) -> str:
    """A text for a terminal: what would steer it, or turn the direction of what follows, is spelt out."""
    return "".join(
        letter if letter.isprintable() or letter in _KEPT else letter.encode("unicode_escape").decode()
        for letter in text
    )


def list_names(names: Sequence[str], limit: int = 3) -> str:
    """The first names, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def tell_apart(folders: Sequence[Path]) -> list[str]:
    """The shortest tails of the folders' paths that tell different folders apart, joined by slashes.

    A report carries these and never a whole path of the machine that made it.
    """
    paths = [folder.resolve() for folder in folders]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]
