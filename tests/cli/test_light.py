"""What needs no model imports no torch, and a command prints nothing that is not ours."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from prefdelta.cli import main
from prefdelta.core.errors import PrefdeltaWarning
from prefdelta.core.records import Item, Sample, Span, write_rows

WORK = """
import contextlib, json, sys
from prefdelta.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["prefdelta", *command.split()]
    with contextlib.suppress(SystemExit):
        main()
    print(command.split()[0], sorted({"torch", "transformers", "peft", "datasets", "bm25s"} & sys.modules.keys()))
"""


def test_files_are_read_and_paired_without_torch_and_without_noise(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [Item("i", "t", ({"role": "user", "content": "2+2?"},), ("4",))])
    for text in "45":
        write_rows(tmp_path / f"{text}.jsonl", [Sample("i", (Span(text),), "stop", 1)])
    (tmp_path / "trl.jsonl").write_text(json.dumps({"prompt": "2+2?", "chosen": "4", "rejected": "5"}))
    commands = ["import trl.jsonl -o own.jsonl", "pair prompts.jsonl 4.jsonl 5.jsonl -o pairs", "verify pairs"]
    done = subprocess.run(
        [sys.executable, "-c", WORK, json.dumps(commands)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.endswith("]")] == ["import []", "pair []", "verify []"]


def test_only_our_warnings_are_told_and_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn() -> None:
        for category in (UserWarning, FutureWarning, DeprecationWarning, RuntimeWarning):
            warnings.warn("a library's", category, stacklevel=1)
        for _ in range(2):
            warnings.warn("the server was asked again.", PrefdeltaWarning, stacklevel=1)

    shown = warnings.showwarning
    monkeypatch.setattr(sys.modules["prefdelta.cli.app"], "app", warn)
    main()
    assert capsys.readouterr().err == "prefdelta: warning: the server was asked again.\n" * 2
    assert warnings.showwarning is shown
