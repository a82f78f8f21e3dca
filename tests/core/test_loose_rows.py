"""Rows of ``.json`` files: a list on one line, or one object a line whatever the name says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefdelta.core import jsonl
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.loose_rows import loose_rows


def test_a_list_may_be_one_line_longer_than_any_line_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 50)
    path, rows = tmp_path / "rows.json", [{"a": "x" * 40}, {"a": "y" * 40}]
    path.write_text("\n " + json.dumps(rows))
    assert [row.columns for row in loose_rows(path)] == rows
    path.write_text("\ufeff\n" + "".join(json.dumps(row)[:50] + "\n" for row in rows))
    assert [row.columns for row in loose_rows(path)] == rows


@pytest.mark.parametrize(("text", "reason"), [('{\n"a": 1}', "holds no list of rows"), ("", "is not valid JSON")])
def test_what_holds_no_rows_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(PrefdeltaError, match=reason):
        list(loose_rows(tmp_path / "rows.json"))
