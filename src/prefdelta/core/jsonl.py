"""Reading JSON and JSON Lines files: strictly, within bounds, plain or compressed.

A line ends at a line feed and nowhere else: U+2028 and the like may stand inside a JSON string, so ``str.splitlines``
tears rows apart. A byte-order mark and carriage returns are passed over. What JSON has no clear meaning for is refused:
NaN and infinite numbers, keys that come twice, half of a surrogate pair.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefdelta.core.compression import DAMAGED, decompressed
from prefdelta.core.errors import PrefdeltaError

LONGEST_LINE = 64 * 2**20
"""Bytes of the longest line that is read."""

_MARK = b"\xef\xbb\xbf"
_DIGITS = 100  # of the longest whole number: far more than any number of ours has


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1; each without what ends it.

    Raises:
        PrefdeltaError: the file cannot be read or decompressed, or a line is longer than :data:`LONGEST_LINE`.
    """
    number = 0
    try:
        with decompressed(path) as handle:
            while line := handle.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise PrefdeltaError(f"{path}, line {number}: longer than {LONGEST_LINE // 2**20} MiB; split it.")
                line = (line.removeprefix(_MARK) if number == 1 else line).strip(b" \t\r\n")
                if line:
                    yield number, line
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror or error}.") from error
    except DAMAGED as error:
        raise PrefdeltaError(f"cannot read {path} beyond line {number}: it is damaged ({error}).") from error


def parse_json(raw: bytes | str, *, halves: bool = False) -> Any:
    """The value of a JSON text; with ``halves``, texts may hold half a surrogate pair, which the reader mends.

    Raises:
        ValueError: it is not UTF-8, not JSON, nested too deeply, or has something that JSON has no clear meaning for.
    """
    text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_number, parse_int=_integer, parse_constant=_constant
        )
        if "\\u" in text and not halves:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a JSON Lines file, with the numbers of their lines.

    Raises:
        PrefdeltaError: as :func:`lines_of`, or a line is no JSON object.
    """
    for number, line in lines_of(path):
        try:
            value = parse_json(line)
        except ValueError as error:
            raise PrefdeltaError(f"{path}, line {number}: not valid JSON ({error}).") from error
        if not isinstance(value, dict):
            raise PrefdeltaError(f"{path}, line {number}: not a JSON object but {_told(value)}.")
        yield number, value


def read_json(path: Path, *, halves: bool = False) -> Any:
    """The value of a JSON file; ``halves`` as in :func:`parse_json`.

    Raises:
        PrefdeltaError: it cannot be read, or is not JSON.
    """
    try:
        with decompressed(path) as handle:
            content = handle.read()
        return parse_json(content.removeprefix(_MARK), halves=halves)
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror or error}.") from error
    except DAMAGED as error:
        raise PrefdeltaError(f"cannot read {path}: it is damaged ({error}).") from error
    except ValueError as error:
        raise PrefdeltaError(f"{path} is not valid JSON ({error}).") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} comes twice")
    return found


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _told(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
