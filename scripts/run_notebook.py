"""Run a notebook's code cells in order in this process, and keep what they print: no Jupyter is needed.

``python scripts/run_notebook.py docs/notebooks/first-merge.ipynb`` writes the outputs into the file. It runs in a
folder of its own, which is removed. What libraries write to the standard error (progress bars) is not kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of a notebook that hold code, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(notebook: dict[str, Any], names: dict[str, Any]) -> Iterator[str]:
    """Run each code cell in the namespace ``names``, in the current folder; yields what it printed."""
    for number, cell in enumerate(code_cells(notebook), 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        yield printed.getvalue()


def run_in_place(path: Path) -> None:
    """Run the notebook at ``path`` and write what its cells printed into it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = list(run_cells(notebook, {"__name__": "__main__"}))
    for number, (cell, text) in enumerate(zip(code_cells(notebook), printed, strict=True), 1):
        cell["execution_count"] = number
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell["outputs"] = [stream] if text else []
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def page(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown: text as it is, code as a block, and below it what it printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [f"```text\n{''.join(output['text']).rstrip()}\n```" for output in cell.get("outputs", [])]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_in_place(Path(sys.argv[1]).absolute())
