"""Compressed files are read as a stream, whatever their names, and up to a size."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prefdelta.agent.retrieval.corpus import load_corpus
from prefdelta.cli import app
from prefdelta.core import compression
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import lines_of, read_json
from prefdelta.core.records import Item, read_rows
from prefdelta.generation.datasets import mmlu_pro

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
BOMBS = [(suffix, content) for suffix in PACK for content in (b" " * 2**18, b"{}\n" * 2**16, b"[" * 2**18)]


@pytest.mark.parametrize(("suffix", "content"), [*BOMBS, (".gz", b"\n" * 2**18)])  # a million lines take their time
def test_a_file_that_decompresses_to_far_more_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, content: bytes
) -> None:
    """64 MiB or more in a few kilobytes, in many compressed streams; the limit here is 1 MiB, and so is memory."""
    monkeypatch.setattr(compression, "MOST_DECOMPRESSED", 2**20)
    path = tmp_path / f"bomb.jsonl{suffix}"
    path.write_bytes(PACK[suffix](content) * (64 * 2**20 // len(content)))
    for read in (lambda: sum(1 for _ in lines_of(path)), lambda: read_json(path), lambda: read_rows(path, Item)):
        tracemalloc.start()
        with pytest.raises(PrefdeltaError) as caught:
            read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12 * 2**20
        assert "decompresses to more than 1 MiB" in str(caught.value) or "line 1" in str(caught.value)


def test_a_member_of_an_archive_has_the_same_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MOST_DECOMPRESSED", 2**20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("answers.json", " " * (2**20 + 1))
    with pytest.raises(PrefdeltaError, match=r"bomb.zip:answers.json decompresses to more than 1 MiB"):
        mmlu_pro.load(path)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ""])
@pytest.mark.parametrize("pack", [*PACK.values(), bytes])
def test_the_first_bytes_say_how_a_file_is_compressed(tmp_path: Path, suffix: str, pack: type[bytes]) -> None:
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(pack(b'{"a": 1}\n\n{"b": 2}'))
    assert [line for _, line in lines_of(path)] == [b'{"a": 1}', b'{"b": 2}']


@pytest.mark.parametrize(
    ("content", "name"), [(b"\x28\xb5\x2f\xfd....", "zstd"), (b"PK\x03\x04....", "zip"), (b"\x04\x22\x4d\x18", "lz4")]
)
@pytest.mark.parametrize("suffix", [".jsonl.zst", ".jsonl", ".json.lz4"])
def test_other_compressions_are_refused_with_what_to_do(tmp_path: Path, content: bytes, name: str, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    for read in (lambda: list(lines_of(path)), lambda: read_json(path), lambda: load_corpus(str(path))):
        with pytest.raises(PrefdeltaError, match=f"is compressed by {name}; decompress it first"):
            read()
    result = CliRunner().invoke(app, ["import", str(path), "-o", str(tmp_path / "pairs.jsonl")])
    assert result.exit_code != 0
    assert f"is compressed by {name}" in str(result.exception)
