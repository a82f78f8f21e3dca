"""Names with brackets and colons are printed as they are: they are no markup of the terminal library."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

import whole_runs
from prefdelta.core.progress import Display, terminal

Command = Callable[..., tuple[int, str]]

NAMES = ["[red]x[/red]", "[|]", "out [m]x", ":smile:", "[bold"]
ROWS = [{"prompt": f"{number}+1?", "chosen": "[/] yes", "rejected": "[red]no"} for number in range(3)]
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"], "base_model_name_or_path": "[/base]"}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Call the command line in this process and in an empty folder; returns the exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*given: object) -> tuple[int, str]:
        code, found = whole_runs.command(*given), capsys.readouterr()
        return code, found.out + found.err

    return call


def _adapter(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(LORA))
    shapes = {"A": [2, 4], "B": [3, 2]}
    header, data = {}, b""
    for side, shape in shapes.items():
        values = struct.pack(f"<{shape[0] * shape[1]}f", *[0.5] * (shape[0] * shape[1]))
        name = f"base_model.model.q.lora_{side}.weight"
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    head = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(command: Command, name: str) -> None:
    place = Path(name)
    place.mkdir(parents=True)
    source = place / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pairs = place / "pairs.jsonl"
    assert command("import", source, "-o", pairs) == (0, f"{pairs}: 3 pairs\n")
    assert command("export", pairs, "-o", place / "trl.jsonl") == (0, f"{place}/trl.jsonl: 3 rows\n")
    corpus = place / "corpus.jsonl"
    corpus.write_text(json.dumps({"text": "[/] a passage"}) + "\n")
    code, said = command("index", corpus, "-o", place / "index")
    assert (code, f"{place}/index" in said) == (0, True), said
    one, other = f"a{name.replace('/', '')}", f"b{name.replace('/', '')}"
    for label in (one, other):
        _adapter(place / label)
    code, said = command("merge", place / one, place / other, "-o", place / "m", "--method", "average")
    assert (code, f"adapter: {place}/m" in said) == (0, True), said
    code, said = command("inspect", place / one, place / other)
    assert (code, one in said, other in said) == (0, True, True), said
    code, said = command("import", place / "none.jsonl", "-o", place / "p.jsonl")
    assert (code, f"{place}/none.jsonl" in said) == (2, True), said
    code, said = command("train", place / "none.jsonl", "--student", name, "-o", place / "t")
    assert (code, "Traceback" in said) == (2, False), said
    code, said = command("import", source, "-o", place / "q.jsonl", "--format", name)
    assert (code, repr(name) in said) == (2, True), said


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", ":smile:", "[link=x]"])
def test_tables_and_progress_print_letters(capsys: pytest.CaptureFixture[str], text: str) -> None:
    table = Table(text, title=text)
    table.add_row(text)
    terminal().print(table)
    terminal().print(text)
    assert capsys.readouterr().out.count(text) == 4
    console = Console(force_terminal=True, markup=False, emoji=False, highlight=False)
    with Display(console) as display:
        display.start(text)
        display.tell(text)
    assert capsys.readouterr().out.count(text) >= 2


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;title\x07", "a\x08b", "\u202egnp.exe", "c\x9b31m"])
def test_control_characters_in_names_are_spelt_out(name: str, tmp_path: Path, command: Command) -> None:
    _adapter(tmp_path / name)
    (tmp_path / name / "rows.jsonl").write_text("{")
    shown = name.encode("unicode_escape").decode()
    for words in (
        ("inspect", name),
        ("merge", name, "-o", f"{name}/out"),
        ("import", f"{name}/rows.jsonl", "-o", "x.jsonl"),
    ):
        _, told = command(*words)
        assert shown in told.replace("\n", ""), told
        assert not [letter for letter in told if not (letter.isprintable() or letter == "\n")], told
