"""Resumable rows: an append-only log of finished work, by key, that survives a kill at any byte and flipped bits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefdelta.core.records import digest, to_json


class ResumableRows:
    """What is finished, by key. Each line of the file is ``{"key": ..., "sum": ..., "value": ...}``.

    ``sum`` is a checksum; the work in a line that was torn or damaged is done again.

    Args:
        path: the file; made when first written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = {}
        if path.is_file():
            self._read()

    def add(self, entries: Iterable[tuple[str, Any]]) -> None:
        """Keep finished work, given as (key, value) s; it is on disk when this returns."""
        lines = ""
        for key, value in entries:
            self.found[key] = value
            lines += to_json({"key": key, "sum": _checksum(key, value), "value": value}) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(lines)
            handle.flush()
            os.fsync(handle.fileno())

    def remove(self) -> None:
        """Delete the file: its content lies elsewhere now."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self._path.open("r+b") as handle:
                handle.truncate(len(whole))
        for line in whole.split(b"\n")[:-1]:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)
                if entry["sum"] == _checksum(entry["key"], entry["value"]):
                    self.found[entry["key"]] = entry["value"]


def _checksum(key: str, value: Any) -> str:
    return digest([key, value])[:16]
