"""YAML from people nobody knows: read in bounded time and memory, with a sentence about what cannot be meant.

A small YAML text can stand for a huge document (aliases of aliases), for one that contains itself, or for one nested
deeper than Python's stack. The text is therefore first composed into nodes, which are counted as if every alias were
written out, and only a document within the limits is turned into values. Those are then checked for what no recipe
means: a date, a number that is not finite, a key that is no text (``on:`` is ``True`` in YAML 1.1).
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from prefdelta.core.errors import PrefdeltaError

MAX_BYTES = 128 * 1024
"""The longest text. The longest recipe of this package has 8 KB."""

MAX_NODES = 10_000
"""The most keys, values, lists and mappings, aliases written out."""

MAX_DEPTH = 50
"""The deepest nesting, aliases written out."""

_MAX_DIGITS = 100
_OTHER_BASE = re.compile(r"[-+]?(?:0[0-7_]+$|[^:]*:)")  # "010" is 8 in YAML 1.1, and "1:30" is 90
_MERGE = "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_yaml(text: str, *, origin: str) -> Any:
    """The value of a YAML document: mappings with text keys, lists, text, finite numbers, booleans and nulls.

    Args:
        text: the document.
        origin: what it is called in messages.

    Raises:
        PrefdeltaError: it is no valid YAML, is larger or deeper than the limits of this module, repeats a key, or holds
            something else than such values.
    """
    if len(text) > MAX_BYTES:
        raise PrefdeltaError(f"{origin} has {len(text):,} characters; a recipe may have {MAX_BYTES:,}.")
    try:
        value = _value(text)
        _check_values(value)
    except yaml.YAMLError as error:
        raise PrefdeltaError(f"{origin} is not valid YAML: {' '.join(str(error).split())}.") from error
    except (_Refused, ValueError) as error:  # ValueError: text that looks like a number or a date, and is none
        raise PrefdeltaError(f"{origin}: {error}.") from error
    return value


def _value(text: str) -> Any:
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _Measure().of(node, "")
    return loader.construct_document(node)


class _Refused(Exception):
    """What is wrong with a document, as the end of a sentence."""


class _Loader(yaml.SafeLoader):
    """The safe loader, with a limit of nesting and of nodes that holds while the text is read; no explicit tags."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nesting = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise _Refused(f"line {event.start_mark.line + 1} has the tag {tag!r}; recipes use none")
        self._nodes += 1
        self._nesting += 1
        if self._nodes > MAX_NODES:
            raise _Refused(f"it has more than {MAX_NODES:,} entries")
        if self._nesting > MAX_DEPTH:
            raise _Refused(f"line {event.start_mark.line + 1} is nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self._nesting -= 1
        return node


class _Measure:
    """Size and depth of a document with its aliases written out, each shared part measured once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int] | None] = {}

    def of(self, node: yaml.Node, where: str) -> tuple[int, int]:
        """(nodes, depth) of a part; ``where`` is its dotted path.

        Raises:
            _Refused: it contains itself, is too large or too deep, repeats a key or has a key that is no text.
        """
        if id(node) in self._known:
            known = self._known[id(node)]
            if known is None:
                raise _Refused(f"{where or 'it'} contains itself through an alias")
            return known
        self._known[id(node)] = None
        parts = [self.of(child, place) for place, child in _children(node, where)]
        size = 1 + sum(count for count, _ in parts)
        depth = 1 + max((depth for _, depth in parts), default=0)
        if size > MAX_NODES:
            raise _Refused(f"{where or 'it'} has more than {MAX_NODES:,} entries when its aliases are written out")
        if depth > MAX_DEPTH:
            raise _Refused(f"{where or 'it'} is nested deeper than {MAX_DEPTH} levels when its aliases are written out")
        self._known[id(node)] = (size, depth)
        return size, depth


def _children(node: yaml.Node, where: str) -> list[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.SequenceNode):
        return [(_below(where, place), child) for place, child in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        if node.tag in _NUMBERS and len(node.value) > _MAX_DIGITS:
            raise _Refused(f"{where or 'it'} is a number of {len(node.value):,} digits")
        if node.tag in _NUMBERS and _OTHER_BASE.match(node.value):
            raise _Refused(
                f"{where or 'it'}: YAML reads {node.value!r} in base {60 if ':' in node.value else 8}; write a plain "
                "number, or put it in quotes if it is text"
            )
        return []
    children = []
    seen: set[str] = set()
    for key, child in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _Refused(f"a key of {where or 'the document'} is no text")
        place = _below(where, key.value)
        if key.value in seen and key.tag != _MERGE:
            raise _Refused(f"the key {place!r} is given twice; keep one")
        seen.add(key.value)
        children.append((place, child))
    return children


def _check_values(value: Any, where: str = "") -> None:
    """Refuse what no recipe means, naming the key.

    Raises:
        _Refused: a key is no text, or a value is no text, finite number below 2^63, boolean, null, list or mapping.
    """
    here = where or "the document"
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise _Refused(f"a key of {here} is read as {_read_as(key)}; put it in quotes if it is a name")
            _check_text(key, f"a key of {here}")
            _check_values(entry, _below(where, key))
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            _check_values(entry, _below(where, place))
    elif isinstance(value, str):
        _check_text(value, here)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _Refused(f"{here} is {value}; numbers must be finite")
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        raise _Refused(f"{here} is a whole number beyond 2^63")
    elif value is not None and not isinstance(value, bool | int | float):
        raise _Refused(f"{here} is read as {_read_as(value)}; put it in quotes if it is text")


def _check_text(text: str, where: str) -> None:
    if "\0" in text:
        raise _Refused(f"{where} holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Refused(f"{where} holds half of a character ({text[error.start]!a})") from error


def _read_as(value: Any) -> str:
    kind = type(value).__name__
    known = {"bool": "boolean", "NoneType": "null", "int": "number", "float": "number"}
    return f"the {known.get(kind, kind)} {str(value)[:40]!r}"


def _below(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)
