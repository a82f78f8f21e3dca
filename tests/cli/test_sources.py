"""The commands for single stages read what recipes read: published files by their content, data sets by settings."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prefdelta.cli import app
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair, Record, Sample, Score, read_rows
from prefdelta.micro import model_path

ALPACA = [{"instruction": f"Add {n} and 1.", "output": f"It is {n + 1}.", "dataset": "koala"} for n in range(3)]
GSM8K = [
    {
        "question": f"Tom has {n} pens and buys 1. How many?",
        "ground_truth": f"{n}+1={n + 1}\nA: {n + 1}",
        "large": {"solution": f"He has {n + 1}.\nA: {n + 1}", "is_correct": True},
        "small": {"solution": f"He has {n}.\nA: {n}", "is_correct": False},
    }
    for n in range(3)
]
MMLU_PRO = [
    {
        "question_id": n,
        "question": f"{n} + 1?",
        "options": [str(n), str(n + 1)],
        "answer": "B",
        "category": "math",
        "generated_text": "The answer is (B).",
    }
    for n in range(3)
]
TABLE = [{"ask": f"{n}+1?", "gold": str(n + 1)} for n in range(3)]


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


def _lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, tuple[Path, list[str]]]:
    """Name of a source -> its file and the settings that it needs."""
    alpaca = tmp_path / "model_outputs.json"
    alpaca.write_text(json.dumps(ALPACA), encoding="utf-8")
    mmlu = tmp_path / "mmlu.zip"
    with zipfile.ZipFile(mmlu, "w") as archive:
        archive.writestr("answers.json", json.dumps(MMLU_PRO))
    return {
        "alpaca": (alpaca, []),
        "gsm8k": (_lines(tmp_path / "solutions.jsonl", GSM8K), []),
        "mmlu": (mmlu, []),
        "table": (_lines(tmp_path / "table.jsonl", TABLE), ["format=huggingface", "question=ask", "answer=gold"]),
    }


def _settings(section: str, settings: list[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", f"{section}.{setting}")]


@pytest.mark.parametrize("name", ["alpaca", "gsm8k", "mmlu", "table"])
def test_every_source_is_answered(sources: dict[str, tuple[Path, list[str]]], tmp_path: Path, name: str) -> None:
    path, settings = sources[name]
    few = ["--set", "max_new_tokens=2"]
    _run("sample", "micro:ash-weak", path, "-o", tmp_path / "out", *few, *_settings("prompts", settings))
    assert len({sample.item for sample in read_rows(tmp_path / "out" / "responses.jsonl", Sample)}) == 3
    _run("sample", "micro:ash-weak", path, "-o", tmp_path / "two", *few, *_settings("prompts", [*settings, "count=2"]))
    assert len(read_rows(tmp_path / "two" / "responses.jsonl", Sample)) == 2


@pytest.mark.parametrize(("name", "golds"), [("gsm8k", "final-number"), ("mmlu", "choice"), ("table", "exact-match")])
def test_every_source_with_gold_answers_is_a_benchmark(
    sources: dict[str, tuple[Path, list[str]]], tmp_path: Path, name: str, golds: str
) -> None:
    path, settings = sources[name]
    asked = _settings("questions", settings)
    told = _run("evaluate", "micro:student", path, "-o", tmp_path / "out", "--scorer", golds, *asked)
    assert "on 3 items" in told
    assert len(read_rows(tmp_path / "out" / "records.jsonl", Record)) == 3


def test_published_answers_are_scored_and_paired(sources: dict[str, tuple[Path, list[str]]], tmp_path: Path) -> None:
    file = sources["gsm8k"][0]
    systems = ["--set", "chosen.system=large", "--set", "rejected.system=small"]
    _run("pair", file, file, file, "-o", tmp_path / "pairs", *systems)
    pairs = read_rows(tmp_path / "pairs" / "pairs.jsonl", Pair)
    assert [(pair.chosen.text[-1], pair.rejected.text[-1]) for pair in pairs] == [("1", "0"), ("2", "1"), ("3", "2")]
    for system, score in (("large", 1.0), ("small", 0.0)):
        asked = ["--set", "scorer=final-number", "--set", f"responses.system={system}"]
        _run("score", file, file, "-o", tmp_path / system, *asked)
        assert [row.score for row in read_rows(tmp_path / system / "scores.jsonl", Score)] == [score] * 3
    with pytest.raises(PrefdeltaError, match="no solutions of the system 'lage'; did you mean 'large'"):
        _run("pair", file, file, file, "-o", tmp_path / "p", "--set", "chosen.system=lage")
    with pytest.raises(PrefdeltaError, match=r"several systems: .*large.*; name one, in a recipe by system"):
        _run("pair", file, file, file, "-o", tmp_path / "p", "--set", "chosen.system=large")
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{**row, "output": "I do not know."} for row in ALPACA]), encoding="utf-8")
    _run("pair", sources["alpaca"][0], sources["alpaca"][0], other, "-o", tmp_path / "alpaca")
    assert len(read_rows(tmp_path / "alpaca" / "pairs.jsonl", Pair)) == 3


def test_files_of_ours_that_were_changed_since_are_not_read(
    sources: dict[str, tuple[Path, list[str]]], tmp_path: Path
) -> None:
    file = sources["gsm8k"][0]
    systems = ["--set", "chosen.system=large", "--set", "rejected.system=small"]
    for system in ("large", "small"):
        asked = ["--set", "scorer=final-number", "--set", f"responses.system={system}"]
        _run("score", file, file, "-o", tmp_path / system, *asked)
    scores = [tmp_path / system / "scores.jsonl" for system in ("large", "small")]
    words = ["pair", file, file, file, "--set", "rule=score", *systems]
    words += ["--chosen-scores", scores[0], "--rejected-scores", scores[1]]
    _run(*words, "-o", tmp_path / "pairs")
    pairs = tmp_path / "pairs" / "pairs.jsonl"
    scores[1].write_text(scores[1].read_text().replace("0.0", "1.0", 1))
    pairs.write_text(pairs.read_text().replace("He has 1", "He has 7", 1))
    training = ["train", pairs, "--student", "micro:student", "--set", "batch_size=3", "--set", "warmup_ratio=0"]
    for command in (words, training, ["export", pairs]):
        with pytest.raises(PrefdeltaError, match=r"(scores|pairs)\.jsonl was changed after it was written"):
            _run(*command, "-o", tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()


def test_what_cannot_be_read_is_told_with_the_setting_that_reads_it(
    sources: dict[str, tuple[Path, list[str]]], tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("ask,gold\n1+1?,2\n", encoding="utf-8")
    for source, told in [
        (
            sources["table"][0],
            "no messages; to read it as a data set, set format=huggingface",
        ),
        (tmp_path / "rows.csv", "set format=huggingface and question=COLUMN"),
        (tmp_path / "gone.jsonl", "does not exist"),
        ("openai/gsm8k", "for a data set of the Hugging Face Hub, set format=huggingface"),
    ]:
        with pytest.raises(PrefdeltaError) as caught:
            _run("sample", "micro:ash-weak", source, "-o", tmp_path / "out")
        assert told in str(caught.value)
        assert not (tmp_path / "out").exists()
    with pytest.raises(PrefdeltaError, match="unknown key 'fromat'; did you mean 'format'"):
        _run("sample", "micro:ash-weak", sources["table"][0], "-o", tmp_path / "out", "--set", "prompts.fromat=x")


JUDGE = ("--judge", "http://127.0.0.1:9/v1", "--judge-model", "j", "-o", "out")


@pytest.mark.parametrize("name", ["loop", "pipe", "pipe.jsonl", "~nobody-at-all/x", "/dev/zero"])
def test_what_is_no_file_is_told_in_a_sentence(
    name: str, tmp_path: Path, sources: dict[str, tuple[Path, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for pipe in ("pipe", "pipe.jsonl"):
        os.mkfifo(pipe)
    known, settings = sources["alpaca"]
    for words in (
        ("run", name, "--dry-run"),
        ("verify", name),
        ("view", name, "-o", "out"),
        ("pair", name, known, known, "-o", "out"),
        ("score", known, name, "-o", "out", "--set", "scorer=exact-match", *settings),
        ("evaluate", "micro:student", name, "-o", "out"),
        ("evaluate", "micro:student", known, "-o", "out", "--corpus", name),
        ("train", name, "--student", "micro:student", "-o", "out"),
        ("index", name, "-o", "out"),
        ("import", name, "-o", "out.jsonl"),
        ("export", name, "-o", "out.jsonl"),
        ("export", name, "-o", "out"),
        ("sample", "micro:ash-weak", name, "-o", "out"),
        ("sample", name, known, "-o", "out"),
        ("compare", name, known),
        ("answer", name, "micro:ash-weak", "-o", "out"),
        ("convert", name, "-o", "out"),
        ("report", name),
        ("merge", name, "-o", "out"),
        ("judge", "alpaca", name, known, *JUDGE),
        ("judge", "alpaca", known, name, *JUDGE),
        ("judge", "alpaca", known, known, "--prompt", name, *JUDGE),
        ("judge", "alpaca", known, known, "--gamed", name, *JUDGE),
        ("judge", "pairwise", known, known, "--questions", name, *JUDGE),
        ("judge", "mtbench", known, "--questions", known, "--prompts", name, *JUDGE),
    ):
        with pytest.raises(PrefdeltaError):
            _run(*words)
    assert not Path("out").exists()
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("verify", "manifest.json"),
        ("verify", "run.json"),
        ("report", "recipe.json"),
        ("compare", "records.jsonl"),
        ("compare", "results.json"),
        ("merge", "adapter_config.json"),
        ("sample", "config.json"),
        ("sample", "tokenizer.json"),
        ("import", "state.json"),
    ],
)
def test_no_command_waits_for_a_pipe_in_a_folder(
    command: str, name: str, tmp_path: Path, sources: dict[str, tuple[Path, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known, _ = sources["alpaca"]
    if command == "sample":
        shutil.copytree(model_path("ash-weak"), "in")
        Path("in", name).unlink()
    else:
        Path("in").mkdir()
    os.mkfifo(Path("in", name))
    rest = {"compare": (known,), "sample": (known, "-o", "out"), "merge": ("-o", "out"), "import": ("-o", "o.jsonl")}
    with pytest.raises(PrefdeltaError):
        _run(command, "in", *rest.get(command, ()))


@pytest.mark.parametrize("name", ["empty.jsonl", "blank.jsonl", "packed.jsonl.gz", "list.json"])
def test_an_empty_file_is_an_error_that_names_it(
    name: str, tmp_path: Path, sources: dict[str, tuple[Path, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"empty.jsonl": b"", "blank.jsonl": b"\n \n", "list.json": b"[]"}
    Path(name).write_bytes(content.get(name, gzip.compress(b"")))
    known, _ = sources["alpaca"]
    for words in (
        ("sample", "micro:ash-weak", name, "-o", "out"),
        ("evaluate", "micro:student", name, "-o", "out"),
        ("score", known, name, "-o", "out", "--set", "scorer=exact-match"),
        ("pair", name, known, known, "-o", "out"),
        ("pair", known, name, known, "-o", "out"),
        ("train", name, "--student", "micro:student", "-o", "out"),
        ("index", name, "-o", "out"),
        ("import", name, "-o", "out.jsonl"),
        ("export", name, "-o", "out.jsonl"),
        ("export", name, "-o", "out"),
        ("compare", name, known),
        ("answer", name, "micro:ash-weak", "-o", "out"),
        ("judge", "alpaca", name, known, *JUDGE),
        ("judge", "pairwise", known, known, "--questions", name, *JUDGE),
    ):
        with pytest.raises(PrefdeltaError, match=re.escape(name)):
            _run(*words)
    assert not Path("out").exists()
    assert not Path("out.jsonl").exists()


def test_an_input_whose_name_is_too_long_is_not_told_as_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a" * 300, "a" * 300 + ".jsonl"):
        with pytest.raises(PrefdeltaError) as caught:
            _run("sample", "micro:ash-weak", name, "-o", "out")
        assert "aaa" in str(caught.value)
        assert "write" not in str(caught.value)
        with pytest.raises(PrefdeltaError, match="aaa"):
            _run("evaluate", "micro:student", name, "-o", "out")


def test_scores_that_the_pairing_does_not_look_at_are_refused(
    tmp_path: Path, sources: dict[str, tuple[Path, list[str]]]
) -> None:
    known, _ = sources["alpaca"]
    with pytest.raises(PrefdeltaError, match="'order' looks at no scores"):
        _run("pair", known, known, known, "-o", tmp_path / "out", "--chosen-scores", tmp_path / "gone")
