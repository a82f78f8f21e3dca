"""Compressed files (gzip, bzip2, xz, zip members), decompressed as a stream and up to a size.

What a file is, its first bytes say, whatever its name. A few kilobytes can decompress to terabytes, so each file has a
limit as a whole; it is met while reading, before memory is taken.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.regular import regular

MOST_DECOMPRESSED = 2**30
"""Bytes that one compressed file, or one member of an archive, may decompress to."""

DAMAGED = (EOFError, zlib.error, lzma.LZMAError)
"""What the libraries raise, beside ``OSError``, where compressed bytes are not as they were written."""

_READERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_REFUSED = {
    b"\x28\xb5\x2f\xfd": ("zstd", "`zstd -d`"),
    b"PK\x03\x04": ("zip", "`unzip`"),
    b"\x04\x22\x4d\x18": ("lz4", "`lz4 -d`"),
}
_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".lz4")


def suffix_of(path: Path) -> str:
    """What kind of file it is: its suffix, that of a compression aside (``.jsonl`` of ``rows.jsonl.gz``)."""
    return path.with_suffix("").suffix if path.suffix in _SUFFIXES else path.suffix


@contextmanager
def decompressed(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed where it is compressed.

    Raises:
        PrefdeltaError: it is compressed in a way that is not read here, or (while it is read) decompresses to more than
            :data:`MOST_DECOMPRESSED`.
    """
    with regular(path).open("rb") as raw:
        start = raw.peek(8)
        for magic, (name, remedy) in _REFUSED.items():
            if start.startswith(magic):
                raise PrefdeltaError(f"{path} is compressed by {name}; decompress it first ({remedy}), or use gzip.")
        for magic, reader in _READERS.items():
            if start.startswith(magic):
                with reader(raw) as packed:
                    yield io.BufferedReader(_Bounded(packed, str(path)))
                return
        yield raw


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One member of a zip archive.

    Raises:
        PrefdeltaError: it decompresses to more than :data:`MOST_DECOMPRESSED`.
    """
    with archive.open(name) as packed:
        return io.BufferedReader(_Bounded(packed, f"{archive.filename}:{name}")).read()


class _Bounded(io.RawIOBase):
    """Passes on what a decompressing reader gives, up to :data:`MOST_DECOMPRESSED`."""

    def __init__(self, packed: Any, label: str) -> None:
        self._packed = packed
        self._label = label
        self._left = MOST_DECOMPRESSED

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._packed.readinto(buffer))
        self._left -= count
        if self._left < 0:
            raise PrefdeltaError(
                f"{self._label} decompresses to more than {MOST_DECOMPRESSED / 2**20:g} MiB; if you know what it "
                "holds, decompress it first."
            )
        return count
