"""The picture of the measured run of a real model, from the table of its page: docs/images/real-smollm2.svg.

PYTHONPATH=src python benchmarks/real_smollm2_picture.py
"""

from __future__ import annotations

import re
from pathlib import Path

from prefdelta.report.picture import Point, Row, panel, picture

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks" / "results" / "real_smollm2.md"
PICTURE = ROOT / "docs" / "images" / "real-smollm2.svg"
_KINDS = {"student": "student", "average": "merge", "gam": "merge"}
_CELL = re.compile(r"([\d.]+)(?: \[(-?[\d.]+), (-?[\d.]+)\])?")


def drawn(page: str) -> str:
    """The page's first table as an SVG file: a panel for each delta's held-out pairs, a line for each model."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    head = [cell.strip() for cell in lines[0]]
    # The student, the deltas, the merges, in the order of the reports' pictures.
    rows = sorted(lines[2 : 2 + _rows(page)], key=lambda cells: ("student", "", "merge").index(_kind(cells, "")))
    panels = []
    for place, name in enumerate(head):
        if name.endswith(": %"):
            pairs = name.removeprefix("keeps-").removesuffix(": %")
            made = [_row(cells, place) for cells in rows]
            highest = max(row.interval[1] for row in made if row.interval)
            panels.append(panel(f"{pairs}'s held-out pairs", made, highest=highest, student=50.0, unit="preferred, %"))
    return picture(panels)


def _rows(page: str) -> int:
    table = page[page.index("\n| ---") :].split("\n\n")[0]
    return table.count("\n") - 1


def _kind(cells: list[str], other: str) -> str:
    return _KINDS.get(cells[0].split(" (")[0].strip(), other)


def _row(cells: list[str], place: int) -> Row:
    name = cells[0].split(" (")[0].strip()
    found = _CELL.match(cells[place].strip())
    assert found, cells
    interval = (float(found[2]), float(found[3])) if found[2] else None
    return Row(name, _kind(cells, "single"), (Point(float(found[1]), True, f"{name}: {found[1]}"),), interval, found[1])


if __name__ == "__main__":
    PICTURE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
