"""What commands do at an output that is not theirs: nothing is lost, and one sentence says why, with exit code 2."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import whole_runs
from prefdelta.core.manifests import seal

Command = Callable[..., tuple[int, str]]

ROWS = {"q-1": ("4", "5"), "q-2": ("6", "7")}
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"], "base_model_name_or_path": "base"}

FOLDERS = {
    "pair": ["pair", "in/prompts.jsonl", "in/a.jsonl", "in/b.jsonl", "-o"],
    "score": ["score", "in/prompts.jsonl", "in/a.jsonl", "--set", "scorer=exact-match", "-o"],
    "sample": ["sample", "micro:student", "in/prompts.jsonl", "-o"],
    "train": ["train", "in/pairs.jsonl", "--student", "micro:student", "-o"],
    "evaluate": ["evaluate", "micro:student", "in/prompts.jsonl", "-o"],
    "answer": ["answer", "in/prompts.jsonl", "micro:student", "-o"],
    "learn": ["learn", "in/lora", "--base", "micro:student", "--pairs", "in/pairs.jsonl", "-o"],
    "index": ["index", "in/corpus.jsonl", "-o"],
    "merge": ["merge", "in/lora", "-o"],
    "merge --into": ["merge", "in/lora", "--into", "in/base", "-o"],
    "apply": ["apply", "in/base", "in/lora", "-o"],
    "tune": ["tune", "in/lora", "--base", "micro:student", "--items", "in/prompts.jsonl", "-o"],
    "judge": ["judge", "alpaca", "in/answers.json", "in/answers.json", "--judge", "http://x/v1", "--judge-model", "j",
              "-o"],
    "export": ["export", "in/pairs.jsonl", "-o"],
    "convert": ["convert", "in", "-o"],
    "run": ["run", "in/recipe.yaml", "-o"],
}  # fmt: skip
FILES = {
    "import": ["import", "in/trl.jsonl", "-o"],
    "export": ["export", "in/pairs.jsonl", "-o"],
    "inspect --json": ["inspect", "in/lora", "--json"],
    "inspect --html": ["inspect", "in/lora", "--html"],
    "compare --json": ["compare", "in/records.jsonl", "in/records.jsonl", "--json"],
}

JUDGE = ["--judge", "http://x/v1", "--judge-model", "j"]
SECOND = {
    "judge --questions": ["judge", "pairwise", "in/answers.json", "in/answers.json", "--questions", "prompts.jsonl",
                          *JUDGE],
    "judge --prompt": ["judge", "alpaca", "in/answers.json", "in/answers.json", "--prompt", "prompt.txt", *JUDGE],
    "tune --items": ["tune", "in/lora", "--base", "micro:student", "--items", "prompts.jsonl"],
    "tune --corpus": ["tune", "in/lora", "--base", "micro:student", "--items", "in/prompts.jsonl", "--corpus",
                      "corpus.jsonl"],
    "merge --pairs": ["merge", "in/lora", "--base", "micro:student", "--scale", "pairs", "--pairs", "pairs.jsonl"],
    "learn --pairs": ["learn", "in/lora", "--base", "micro:student", "--pairs", "pairs.jsonl"],
    "train --held-out": ["train", "in/pairs.jsonl", "--student", "micro:student", "--held-out", "pairs.jsonl"],
    "pair --chosen-scores": ["pair", "in/prompts.jsonl", "in/a.jsonl", "in/b.jsonl", "--chosen-scores", "a.jsonl",
                             "--rejected-scores", "in/b.jsonl", "--set", "rule=score"],
    "evaluate pairs:": ["evaluate", "micro:student", "pairs:pairs.jsonl"],
}  # fmt: skip
"""Commands that read a file beside their first input; it is looked for in a folder of ours."""


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Call the command line in this process; returns the exit code and what stood on stderr."""
    return lambda *words: (whole_runs.command(*words), capsys.readouterr().err)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with inputs in ``in``, as far as outputs are checked before they are read."""
    folder = tmp_path / "here" / "in"
    (folder / "base").mkdir(parents=True)
    (folder / "lora").mkdir()
    monkeypatch.chdir(folder.parent)

    def sample(item: str, text: str) -> dict[str, object]:
        spans = [{"source": "model", "text": text}]
        return {"item": item, "index": 0, "spans": spans, "finish": "stop", "tokens": 1, "thinking": False}

    def write(name: str, *rows: object) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    messages = [{"role": "user", "content": "2+2?"}]
    write("prompts.jsonl", *({"id": item, "task": "t", "messages": messages, "answers": ["4"]} for item in ROWS))
    write("a.jsonl", *(sample(item, good) for item, (good, _) in ROWS.items()))
    write("b.jsonl", *(sample(item, bad) for item, (_, bad) in ROWS.items()))
    rejected = {"chosen": sample("q-1", "4"), "rejected": sample("q-1", "5")}
    write("pairs.jsonl", {"id": "q-1", "task": "t", "prompt": messages, **rejected})
    write("trl.jsonl", {"prompt": "p", "chosen": "c", "rejected": "r"})
    write("corpus.jsonl", {"id": "1", "title": "t", "text": "some text"})
    record = {"task": "t", "parsed": "4", "output": "4", "truncated": False, "tokens": 1}
    write("records.jsonl", *({**record, "item": str(place), "score": place % 2} for place in range(12)))
    (folder / "answers.json").write_text(json.dumps([{"instruction": "q", "output": "a", "generator": "g"}]))
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "lora" / "adapter_config.json").write_text(json.dumps(LORA))
    _safetensors(folder / "lora" / "adapter_model.safetensors")
    return folder.parent


RECIPE = (Path(__file__).parents[2] / "src" / "prefdelta" / "micro" / "demo.yaml").read_text()


def _safetensors(path: Path) -> None:
    names = {f"base_model.model.q.lora_{side}.weight": [2, 4] if side == "A" else [4, 2] for side in "AB"}
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [32 * place, 32 * place + 32]}
        for place, (name, shape) in enumerate(names.items())
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack("<16f", *range(16)))


def state(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("name", FOLDERS)
def test_no_command_touches_a_folder_that_is_not_its_own(name: str, here: Path, command: Command) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "keep.txt").write_text("precious")
    (here / "link").symlink_to(here / "mine")
    (here / "file").write_text("precious")
    before = state(here.parent)
    targets = [
        "mine",
        "link",
        ".",
        "..",
        "/",
        str(here.parent),
        "file",
        "file/under",
        "in",
        "new/sub/..",
        "~/out",
        "~x",
        "store://bucket/out",
    ]
    for target in targets:
        overwrite = [] if name == "run" else ["--overwrite"]
        code, told = command(*FOLDERS[name], target, *overwrite)
        assert code == 2, (target, told)
        assert told.startswith("prefdelta: "), told
        assert len(told.splitlines()) == 1, told
        assert state(here.parent) == before, target


@pytest.mark.parametrize("name", FILES)
def test_no_command_replaces_a_file_unless_asked(name: str, here: Path, command: Command) -> None:
    words = FILES[name]
    suffix = ".jsonl" if name in ("import", "export") else ".out"
    target = f"there{suffix}"
    (here / target).write_text("precious")
    (here / f"link{suffix}").symlink_to(here / target)
    before = state(here.parent)
    for place in (target, f"link{suffix}", words[1], ".", "..", "/", "in"):
        asked = [*words, place, *(["--overwrite"] if place != target else [])]
        code, told = command(*asked)
        assert (code, state(here.parent)) == (2, before), (place, told)
        assert told.startswith("prefdelta: "), told
    code, told = command(*words, target, "--overwrite")
    assert code == 0, told
    assert (here / target).read_text() != "precious"
    assert {key for key in state(here.parent) if key not in before} == set()


@pytest.mark.parametrize("name", SECOND)
def test_a_folder_of_ours_that_is_read_is_never_replaced(name: str, here: Path, command: Command) -> None:
    folder = here / "ours"
    folder.mkdir()
    for path in [*(here / "in").glob("*.jsonl")]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "prompt.txt").write_text("{question} {first} {second} {instruction} {output_1} {output_2}")
    seal(folder, {})
    words = [f"pairs:{folder / word[6:]}" if word.startswith("pairs:") else word for word in SECOND[name]]
    words = [str(folder / word) if (folder / word).is_file() else word for word in words]
    before = state(here.parent)
    code, told = command(*words, "-o", "ours", "--overwrite")
    assert (code, told.startswith("prefdelta: the output ours would replace the input")) == (2, True), told
    assert state(here.parent) == before


@pytest.mark.parametrize("name", ["inspect --json", "compare --json"])
def test_a_file_is_not_written_over_an_input_nor_into_a_folder_of_ours(name: str, here: Path, command: Command) -> None:
    (here / "ours").mkdir()
    (here / "ours" / "kept.txt").write_text("precious")
    seal(here / "ours", {})
    (here / "in" / "runs").mkdir()
    (here / "in" / "runs" / "records.jsonl").write_bytes((here / "in" / "records.jsonl").read_bytes())
    words = ["compare", "in/runs", "in/runs", "--json"] if name == "compare --json" else FILES[name]
    held = "in/runs/records.jsonl" if name == "compare --json" else "in/lora/adapter_config.json"
    before = state(here.parent)
    for place, reason in ((held, "a part of the input"), ("ours/kept.txt", "which prefdelta wrote"),
                          ("ours/new.json", "which prefdelta wrote")):  # fmt: skip
        code, told = command(*words, place, "--overwrite")
        assert (code, reason in told, state(here.parent)) == (2, True, before), (place, told)


def test_an_artifact_is_kept_replaced_or_made_again(here: Path, command: Command) -> None:
    words = ["pair", "in/prompts.jsonl", "in/a.jsonl", "in/b.jsonl", "-o", "out"]
    other = ["pair", "in/prompts.jsonl", "in/b.jsonl", "in/a.jsonl", "-o", "out"]
    assert command(*words)[0] == 0
    first = state(here / "out")
    assert command(*words)[0] == 0
    assert command(*other)[0] == 2
    assert state(here / "out") == first
    assert command(*other, "--overwrite")[0] == 0
    assert state(here / "out") != first
    assert command(*words, "--overwrite")[0] == 0
    (here / "out" / "pairs.jsonl").write_text("{}")
    assert command("verify", "out")[0] == 1
    assert command(*words)[0] == 0
    assert state(here / "out") == first
    assert (here / ".out.damaged-1" / "pairs.jsonl").read_text() == "{}"
    (here / "out" / "note").write_text("mine")
    code, told = command(*other, "--overwrite")
    assert (code, "(note)" in told) == (2, True)
    assert sorted(path.name for path in here.iterdir()) == [".out.damaged-1", "in", "out"]


def test_of_two_commands_at_one_output_the_second_is_refused(here: Path, command: Command) -> None:
    holder = "import sys, time; from pathlib import Path; from prefdelta.core.outputs import locked\n"
    holder += "with locked(Path('out')): print('in', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", holder], cwd=here, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        for name in ("pair", "score", "merge", "judge", "run"):
            code, told = command(*FOLDERS[name], "out")
            assert (code, "another process is at work in out" in told) == (2, True), told
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert command(*FOLDERS["pair"], "out")[0] == 0
    assert sorted(path.name for path in here.iterdir()) == ["in", "out"]
