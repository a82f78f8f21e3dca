"""The notebook runs as it stands, and shows what its text says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from run_notebook import code_cells, run_cells

PATH = Path(__file__).parents[1] / "docs" / "notebooks" / "first-merge.ipynb"
NOTEBOOK: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))


def stored(cell: dict[str, Any]) -> str:
    return "".join(line for output in cell["outputs"] for line in output["text"])


def test_the_cells_run_in_order_and_the_merge_beats_student_and_deltas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = list(run_cells(NOTEBOOK, names))
    cells = code_cells(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert [len(text.splitlines()) for text in printed] == [len(stored(cell).splitlines()) for cell in cells]
    for other in ("student", "ash", "elm"):
        run, merged = names["Run"](other, [names["records"][other]]), names["Run"]("m", [names["records"]["merged"]])
        (benchmark,) = names["compare"](run, merged).benchmarks
        assert benchmark.low is not None
        assert benchmark.low > 0
    assert abs(names["found"].pairs[0].cosine) < 0.5
    assert names["record"].by == "agreement"
    assert names["record"].trials[names["record"].chosen].scale > 2
    assert [path.name for path in tmp_path.iterdir()] == ["first-merge"]


def test_the_stored_outputs_are_what_these_cells_print() -> None:
    told = "".join(stored(cell) for cell in code_cells(NOTEBOOK))
    assert told.count("On chain merged is ") == 3
    assert re.search(r"^λ +[\d.]+: information 0\.\d+, unparsed \d+ % chosen$", told, flags=re.MULTILINE)


def test_its_links_lead_to_files() -> None:
    text = "".join(line for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown" for line in cell["source"])
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    assert [link for link in links if not (PATH.parent / link).exists()] == []
