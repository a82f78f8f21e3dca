"""A file that is synced while it is written holds what was written, and tells what the disk refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import prefdelta.adapters.writebehind as writebehind
from prefdelta.adapters.writebehind import WriteBehind


def test_everything_arrives_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "_ENOUGH", 10)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with WriteBehind(tmp_path / "file") as out:
        out.seek(4)
        assert [out.write(bytes([value]) * 7) for value in range(1, 30)] == [7] * 29
        out.seek(0)
        out.write(b"head")
    assert (tmp_path / "file").read_bytes() == b"head" + b"".join(bytes([value]) * 7 for value in range(1, 30))
    assert synced


def test_what_the_disk_refuses_in_the_background_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writebehind, "_ENOUGH", 10)
    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space"), WriteBehind(tmp_path / "file") as out:  # noqa: PT012
        while True:
            out.write(b"0123456789")


def test_what_the_disk_refuses_of_the_last_piece_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(writebehind, "_ENOUGH", 10)
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="Input/output"), WriteBehind(tmp_path / "file") as out:
        out.write(b"0123456789")
