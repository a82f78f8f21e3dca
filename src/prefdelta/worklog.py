"""Finished work, kept while the rest goes on: an append-only file that survives a kill at any byte."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.records import to_json


class WorkLog:
    """What is finished, by key. Each line of the file is ``{"key": ..., "value": ...}``.

    A line that was torn by a kill is cut off when the file is opened again; the work in it is done again.

    Args:
        path: the file; made when first written.

    Raises:
        PrefdeltaError: a line before the last is damaged.
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
            lines += to_json({"key": key, "value": value}) + "\n"
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
        for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], 1):
            try:
                entry = json.loads(line)
                self.found[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError) as error:
                raise PrefdeltaError(
                    f"{self._path}, line {number} is damaged ({error}); delete the file to begin this work again."
                ) from error
