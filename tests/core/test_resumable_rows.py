"""Rows that are kept as they come: nothing that was kept is lost but what was torn or damaged, and that is noticed."""

from __future__ import annotations

from pathlib import Path

from prefdelta.core.resumable_rows import ResumableRows


def test_every_flipped_byte_and_every_cut_costs_its_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    rows = {"one": {"text": "\u2028 a"}, "two": [1.5, None], "three": "\n"}
    for entry in rows.items():
        ResumableRows(path).add([entry])
    assert ResumableRows(path).found == rows
    written = path.read_bytes()
    for place in range(len(written)):
        for bit in (1, 128):
            flipped = bytearray(written)
            flipped[place] ^= bit
            path.write_bytes(flipped)
            found = ResumableRows(path).found
            assert all(rows[key] == found[key] for key in found)
            assert len(found) >= 1
        path.write_bytes(written[:place])
        cut = ResumableRows(path)
        assert list(cut.found) == list(rows)[: written[:place].count(b"\n")]
        cut.add([("four", 4)])
        assert ResumableRows(path).found == {**cut.found, "four": 4}
