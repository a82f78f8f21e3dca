"""Cards of merged adapters: names from strangers' folders are text, never markup."""

from __future__ import annotations

from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from lora_fixtures import random_update
from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.merging import merge

HOSTILE = "a|b`c`<script>alert(1)<∕script>[x](javascript:1) *é* $y$ &amp; #1\u2028- z"


def test_hostile_names_stay_text_in_a_card(tmp_path: Path) -> None:
    base = 'org/model": !!python # `x` | <b>'
    for name in (HOSTILE, "plain_name"):
        write_adapter(tmp_path / name, {"q": random_update(1, (4, 4), 2)}.items(), like=AdapterInfo(base))
    merge([tmp_path / HOSTILE, tmp_path / "plain_name"], tmp_path / "out", method="average")
    _, front, body = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["base_model"].startswith('org/model": !!python')
    table = [line for line in body.splitlines() if line.startswith("|")]
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert len(table) == 4
    assert "| plain_name |" in table[3]
    assert "<script" not in html
    assert "<b>" not in html
    assert "<a " not in html
    assert html.count("<tr>") == 3
    assert html.count("<td>") == 2 * 6
    shown = HOSTILE.replace("`", "'").replace("\u2028", " ").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<td>{shown.replace('&amp;', '&amp;amp;')}</td>" in html
