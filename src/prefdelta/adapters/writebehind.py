"""Writing a file while the disk already works on what was written before."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

_ENOUGH = 16 << 20  # bytes that are worth setting the disk to work on


class WriteBehind:
    """A new file, which a thread syncs from time to time.

    Left alone, the operating system keeps what was written in memory until the last sync, which then takes as long
    as the disk needs for all of it, with nothing else left to do.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._thread = ThreadPoolExecutor(1)
        self._syncing: Future[None] | None = None
        self._waiting = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        self._thread.shutdown()
        self._file.close()
        if failure is None and self._syncing is not None:
            self._syncing.result()  # the disk tells of a failed sync once

    def seek(self, place: int) -> None:
        """Go to a place in the file."""
        self._file.seek(place)

    def write(self, data: memoryview | bytes) -> int:
        """Write, and give the number of bytes.

        Raises:
            OSError: the disk refuses what is being written, or what was.
        """
        self._file.write(data)
        self._waiting += len(data)
        if self._waiting >= _ENOUGH and (self._syncing is None or self._syncing.done()):
            if self._syncing is not None:
                self._syncing.result()
            self._file.flush()
            self._syncing = self._thread.submit(os.fdatasync, self._file.fileno())
            self._waiting = 0
        return len(data)
