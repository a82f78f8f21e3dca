"""What needs no model imports no torch, and a command prints nothing that is not ours."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from chat_server import chat_server
from prefdelta.cli import main
from prefdelta.core.errors import PrefdeltaWarning
from prefdelta.core.records import Item, Message, Sample, Span, write_rows

COMMANDS = (
    "import trl.jsonl -o own.jsonl",
    "pair prompts.jsonl 4.jsonl 5.jsonl -o pairs",
    "verify pairs",
    "methods",
    "score prompts.jsonl 4.jsonl -o scores --set scorer=exact-match",
    "sample m prompts.jsonl -o responses --server URL",
    "answer questions.jsonl m -o answers --server URL",
    "evaluate m prompts.jsonl -o evaluated --server URL",
    "compare evaluated evaluated",
    "view evaluated -o viewer",
    "judge alpaca a.json b.json -o judged --judge URL --judge-model j",
    "export own.jsonl -o exported.jsonl",
    "index corpus.jsonl -o index",
)
WORK = """
import json, sys
from prefdelta.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["prefdelta", *command.split()]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    print(command, "->", code, sorted({"torch", "transformers", "peft", "datasets", "bm25s"} & sys.modules.keys()))
"""


def test_what_needs_no_model_runs_without_torch_and_without_noise(tmp_path: Path) -> None:
    asked: Message = {"role": "user", "content": "2+2?"}
    write_rows(tmp_path / "prompts.jsonl", [Item(name, "t", (asked,), ("4",)) for name in "ij"])
    for text in "45":
        write_rows(tmp_path / f"{text}.jsonl", [Sample(name, (Span(text),), "stop", 1) for name in "ij"])
        published = [{"instruction": "2+2?", "output": text, "generator": text}]
        (tmp_path / f"{'ab'[text == '5']}.json").write_text(json.dumps(published))
    (tmp_path / "trl.jsonl").write_text(json.dumps({"prompt": "2+2?", "chosen": "4", "rejected": "5"}))
    (tmp_path / "questions.jsonl").write_text(json.dumps({"uid": "q", "prompt": "2+2?"}))
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": "1", "text": "four"}))
    with chat_server() as server:
        commands = [command.replace("URL", server.url) for command in COMMANDS]
        done = subprocess.run(
            [sys.executable, "-c", WORK, json.dumps(commands)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    lines = done.stdout.splitlines()
    assert [line for line in lines if " -> " in line] == [
        f"{command} -> 0 {['bm25s'] if command.startswith('index') else []}" for command in commands
    ]
    assert done.stderr == ""


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
