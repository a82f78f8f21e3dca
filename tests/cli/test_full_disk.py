"""A disk that is full, wherever it shows: one sentence, the finished work stays, and the next run ends the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from folders import contents
from prefdelta.cli import app
from prefdelta.core.outputs import refusal
from whole_runs import command_started


def limited_command(limit: int, *words: object, told: Path) -> tuple[int | None, str]:
    """The exit code and the stderr of a command that may write no file above ``limit`` bytes."""
    process = command_started(*words, told=told, largest=limit)
    process.join()
    return process.exitcode, told.read_text()


def command(*words: object) -> int:
    """The exit code of a command that may write what it likes, in this process."""
    return CliRunner().invoke(app, [*map(str, words)]).exit_code


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"

    def sample(item: str, text: str) -> dict[str, object]:
        spans = [{"source": "model", "text": text}]
        return {"item": item, "index": 0, "spans": spans, "finish": "stop", "tokens": 1, "thinking": False}

    rows = [
        {
            "id": str(number),
            "task": "t",
            "prompt": [{"role": "user", "content": f"{number}+1?"}],
            "chosen": sample(str(number), str(number + 1)),
            "rejected": sample(str(number), str(number)),
        }
        for number in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_training_on_a_full_disk_is_one_sentence_and_goes_on(
    pairs: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stderr = tmp_path_factory.mktemp("told") / "stderr"
    settings = ["batch_size=2", "micro_batch_size=2", "checkpoint_steps=2", "lora.r=2", "warmup_ratio=0"]
    words = ["train", pairs, "--student", "micro:student", *(word for entry in settings for word in ("--set", entry))]
    assert command(*words, "-o", tmp_path / "whole") == 0
    whole = contents(tmp_path / "whole")
    adapter = len(whole["adapter_model.safetensors"])
    # The log of steps fits; the adapter in a checkpoint does not, or the optimiser's state, twice as large.
    for limit in (adapter // 2, adapter + 1000):
        code, said = limited_command(limit, *words, "-o", tmp_path / "out", told=stderr)
        assert code == 2, said
        (told,) = [line for line in said.splitlines() if line.startswith("prefdelta: ")]
        assert "cannot write" in told
        assert "free space" in told
        assert "Traceback" not in said
        assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial" / "metrics.jsonl").is_file()
    assert command(*words, "-o", tmp_path / "out") == 0
    assert contents(tmp_path / "out") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_answers_on_a_full_disk_are_kept_as_far_as_they_fit(tmp_path: Path) -> None:
    items = [
        {"id": str(number), "task": "t", "messages": [{"role": "user", "content": f"{number}?"}], "answers": ["1"]}
        for number in range(64)
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    words = ["sample", "micro:student", tmp_path / "prompts.jsonl", "--set", "batch_size=8"]
    code, said = limited_command(6000, *words, "-o", tmp_path / "out", told=tmp_path / "stderr")
    assert (code, "Traceback" in said) == (2, False), said
    assert "cannot write" in said.splitlines()[-1]
    assert 0 < (tmp_path / ".out.partial" / "answers.kept-rows").stat().st_size <= 6000
    assert command(*words, "-o", tmp_path / "out") == 0
    assert command(*words, "-o", tmp_path / "whole") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_is_no_full_disk_is_not_called_one() -> None:
    for error in (ValueError("x"), RuntimeError("(os error 2)"), FileNotFoundError(2, "No such file"), KeyError(28)):
        assert refusal(error) is None
    assert refusal(RuntimeError("I/O error: No space left on device (os error 28)")) == os.strerror(28)
