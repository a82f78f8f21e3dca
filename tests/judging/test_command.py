"""The judging commands, from files to files, with a server and with a local model as the judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from judge_server import JudgeServer, judge_server
from prefdelta.cli import app
from prefdelta.comparing import compare, read_runs
from prefdelta.errors import PrefdeltaError
from prefdelta.judging.judge import Ask
from prefdelta.judging.local import LocalJudge
from prefdelta.openai_client import Completion, Refusal
from prefdelta.recipe import ModelRef
from prefdelta.records import Record, read_rows


def write_answers(folder: Path, count: int = 12) -> None:
    """Ours get better with the number of the question; the baseline's are all alike."""
    ours = [{"instruction": f"q {n}", "output": "good " * n, "generator": "ours"} for n in range(count)]
    ours[-1]["output"] += "\ud83d"  # half of an emoji, as a model whose answer was cut off may end
    base = [{"instruction": f"q {n}", "output": "good good good", "generator": "base"} for n in range(count)]
    (folder / "ours.json").write_text(json.dumps(ours))
    (folder / "base.json").write_text(json.dumps(base))


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def judged(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "judged.json").read_text()))


@pytest.mark.parametrize("kind", ["alpaca", "pairwise", "arena"])
def test_two_models(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    write_answers(tmp_path)
    questions = () if kind == "alpaca" else ("--questions", tmp_path / "base.json")
    with judge_server() as server:
        command = ("judge", kind, tmp_path / "ours.json", tmp_path / "base.json", *questions,
                   "--judge", server.url, "--judge-model", "j", "-o", tmp_path / "out")  # fmt: skip
        said = invoke(*command).output
        first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        asked = sum(server.requests.values())
        invoke(*command)
        assert sum(server.requests.values()) == asked
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first
    found = judged(tmp_path / "out")
    assert (found["model"], found["opponent"], found["judge"], found["benchmark"]) == ("ours", "base", "j", kind)
    assert (found["counts"]["questions"], found["counts"]["judged"]) == (12, 12)
    assert (found["scores"]["wins"], found["scores"]["losses"], found["scores"]["ties"]) == (8, 3, 1)
    assert f"j prefers ours to base in {found['scores']['win_rate']:.1f} % [95 % CI" in said
    records = read_rows(tmp_path / "out" / "records.jsonl", Record)
    assert len(records) == 12
    assert records[0].output == ""


def pairwise(server: JudgeServer, folder: Path, answers: str, judge: str, output: str) -> None:
    base = folder / "base.json"
    url = ("--judge", server.url, "--judge-model", judge)
    invoke("judge", "pairwise", folder / answers, base, "--questions", base, *url, "-o", folder / output)


def test_judged_runs_can_be_compared(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with judge_server() as server:
        pairwise(server, tmp_path, "ours.json", "j", "ours")
        pairwise(server, tmp_path, "base.json", "j", "base")
        pairwise(server, tmp_path, "ours.json", "another", "other")
    (row,) = compare(*read_runs(tmp_path / "base", tmp_path / "ours")).benchmarks
    assert row.first.score == 50
    assert row.second.score == pytest.approx(100 * 8.5 / 12)
    with pytest.raises(PrefdeltaError, match="was scored by 'pairwise by j against base' in ours"):
        compare(*read_runs(tmp_path / "ours", tmp_path / "other"))


def test_mtbench(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "judge" / "mt_bench"
    with judge_server() as server:
        said = invoke(
            "judge", "mtbench", folder / "reference_answer" / "gpt-4.jsonl", "--questions", folder / "question.jsonl",
            "--prompts", folder / "judge_prompts.jsonl", "--references", folder / "reference_answer" / "gpt-4.jsonl",
            "--judge", server.url, "--judge-model", "j", "-o", tmp_path / "out",
        ).output  # fmt: skip
    found = judged(tmp_path / "out")
    assert (found["counts"]["questions"], found["counts"]["judged"], found["counts"]["not_answered"]) == (160, 60, 100)
    assert f"j grades gpt-4 {found['scores']['rating']:.2f} of 10 [95 % CI" in said
    records = read_rows(tmp_path / "out" / "records.jsonl", Record)
    assert len({record.group for record in records}) == 30


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_judgement_goes_on_where_it_was(tmp_path: Path) -> None:
    write_answers(tmp_path, 60)
    with judge_server() as server:
        base = tmp_path / "base.json"
        url = ("--judge", server.url, "--judge-model", "j", "--concurrency", "1")
        words = ["judge", "pairwise", tmp_path / "ours.json", base, "--questions", base, *url, "-o"]
        code = "from prefdelta.cli import main; main()"
        command = [sys.executable, "-c", code, *map(str, words), str(tmp_path / "killed")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        log = tmp_path / "killed" / "replies.jsonl"
        while not (log.is_file() and log.stat().st_size > 2000):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = len(log.read_bytes().splitlines())
        assert 0 < kept < 120
        before = sum(server.requests.values())
        invoke(*words, tmp_path / "killed")
        assert sum(server.requests.values()) - before <= 120 - kept + 1  # and the one that was under way
        invoke(*words, tmp_path / "whole")
    for name in ("games.jsonl", "records.jsonl", "judged.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_your_own_prompt(tmp_path: Path) -> None:
    write_answers(tmp_path, 3)
    (tmp_path / "prompt.txt").write_text(
        "<|im_start|>system\nBe {{strict}}.\n<|im_end|>\n<|im_start|>user\n{instruction}: {output_1} or {output_2}?"
        "\n<|im_end|>"
    )
    with judge_server() as server:
        invoke("judge", "alpaca", tmp_path / "ours.json", tmp_path / "base.json", "--judge", server.url,
               "--judge-model", "j", "-o", tmp_path / "out", "--prompt", tmp_path / "prompt.txt")  # fmt: skip
        system, user = min((body["messages"] for body in server.bodies), key=str)
    assert system == {"role": "system", "content": "Be {strict}."}
    assert user == {"role": "user", "content": "q 0:  or good good good?"}
    (tmp_path / "prompt.txt").write_text("{instruction} {output_1}")
    with pytest.raises(PrefdeltaError, match=r"has no field \{answer_b\}"):
        invoke("judge", "alpaca", tmp_path / "ours.json", tmp_path / "base.json", "--judge", "http://x/v1",
               "--judge-model", "j", "-o", tmp_path / "out", "--prompt", tmp_path / "prompt.txt")  # fmt: skip


def test_a_url_needs_a_models_name(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with pytest.raises(PrefdeltaError, match="--judge-model NAME"):
        invoke("judge", "alpaca", tmp_path / "ours.json", tmp_path / "base.json", "--judge", "http://x/v1", "-o",
               tmp_path / "out")  # fmt: skip


def test_a_local_model_judges(tmp_path: Path) -> None:
    """The embedded student has no taste, but it reads, answers, and does so the same way every time."""
    write_answers(tmp_path, 4)
    for name in ("one", "two"):
        invoke("judge", "alpaca", tmp_path / "ours.json", tmp_path / "base.json", "--judge", "micro:student", "-o",
               tmp_path / name)  # fmt: skip
    assert (tmp_path / "one" / "judged.json").read_bytes() == (tmp_path / "two" / "judged.json").read_bytes()
    assert judged(tmp_path / "one")["judge"].startswith("micro:student#")


def test_a_local_model_tells_its_first_token_and_refuses_what_is_too_long() -> None:
    judge = LocalJudge(ModelRef(path="micro:student"))
    short, long = ({"role": "user", "content": text} for text in ("2 + 2", "2 + 2 " * 5000))
    arrived: dict[int, object] = {}
    replies = judge.ask(
        [Ask((short,), 1, likeliest=5), Ask((long,), 1, likeliest=5), Ask((short,), 6)], arrived.__setitem__
    )
    first, refused, written = replies
    assert isinstance(first, Completion)
    assert 1 < len(first.logprobs[0]) <= 5
    assert max(first.logprobs[0], key=lambda token: first.logprobs[0][token]) == first.text
    assert isinstance(refused, Refusal)
    assert refused.kind == "too long"
    assert isinstance(written, Completion)
    assert arrived == dict(enumerate(replies))
