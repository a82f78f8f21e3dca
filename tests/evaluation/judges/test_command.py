"""The judging commands, from files to files, with a server and with a local model as the judge."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from judge_server import JudgeServer, judge_server
from prefdelta.cli import app
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record, read_rows
from prefdelta.evaluation.comparison import compare, read_runs
from prefdelta.evaluation.judges.judge import Ask
from prefdelta.evaluation.judges.local import LocalJudge
from prefdelta.generation.completion import Completion, Refusal
from prefdelta.recipe import ModelRef
from prefdelta.report.results import read_results
from prefdelta.report.viewer import collect
from strict_server import reasoning_model, strict_server
from whole_runs import command_started


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
    found = dict(json.loads((folder / "judged.json").read_text()))
    assert read_results(folder / "judged.json").to_json() == found
    return found


def test_a_judge_that_never_replies_ends_with_an_error_and_passwords_are_not_repeated(tmp_path: Path) -> None:
    write_answers(tmp_path)
    words = ("judge", "alpaca", tmp_path / "ours.json", tmp_path / "base.json", "--judge-model", "j")
    with strict_server(lambda body: {"error": {"message": "no such deployment"}}) as (url, _):
        found = invoke(*words, "--judge", url, "-o", tmp_path / "out")
        with pytest.raises(PrefdeltaError, match="--judge: a URL holds no user, password or query") as told:
            invoke(*words, "--judge", url.replace("://", "://me:secret@"), "-o", tmp_path / "other")
    assert (found.exit_code, "no such deployment" in found.output) == (1, True)
    assert judged(tmp_path / "out")["counts"]["judged"] == 0
    assert "secret" not in str(told.value)
    assert not (tmp_path / "other").exists()


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
    shown = collect(tmp_path / "out")
    (domain,) = shown.domains
    theirs = read_rows(tmp_path / "out" / "opponent.jsonl", Record)
    assert domain.answers == [[theirs, records]]
    assert [model.name for model in domain.models] == ["base", "ours"]
    assert all(row.score + other.score == 1 for row, other in zip(records, theirs, strict=True))
    texts = {row["instruction"]: row["output"] for row in json.loads((tmp_path / "base.json").read_text())}
    asked_for = [item.messages[-1]["content"] for item in domain.questions if item]
    assert [row.output for row in theirs] == [texts[question] for question in asked_for]
    assert domain.models[1].to_base[0].text
    assert ["wins", 8] in shown.tables[0].rows


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
    (domain,) = collect(tmp_path / "out").domains
    turns = [len(item.messages) for item in domain.questions if item]
    assert turns == [int(record.item.rpartition("/")[2]) for record in records]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_judgement_goes_on_where_it_was(tmp_path: Path) -> None:
    write_answers(tmp_path, 60)
    with judge_server() as server:
        base = tmp_path / "base.json"
        url = ("--judge", server.url, "--judge-model", "j", "--concurrency", "1")
        words = ["judge", "pairwise", tmp_path / "ours.json", base, "--questions", base, *url, "-o"]
        process = command_started(*words, tmp_path / "killed", told=tmp_path / "stderr")
        log = tmp_path / ".killed.partial" / "replies.jsonl"
        while not (log.is_file() and log.stat().st_size > 2000):
            assert process.is_alive(), "it ended before it could be killed"
            time.sleep(0.005)
        process.kill()
        process.join()
        kept = len(log.read_bytes().splitlines())
        assert 0 < kept < 120
        before = sum(server.requests.values())
        invoke(*words, tmp_path / "killed")
        assert sum(server.requests.values()) - before <= 120 - kept + 1  # and the one that was under way
        invoke(*words, tmp_path / "whole", "--concurrency", "8")
    for name in ("games.jsonl", "records.jsonl", "opponent.jsonl", "questions.jsonl", "judged.json"):
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


def test_a_judge_that_refuses_is_quoted_and_one_that_takes_other_fields_is_asked_with_them(tmp_path: Path) -> None:
    write_answers(tmp_path)
    base = tmp_path / "base.json"

    def ask(refuses: Any, output: str) -> str:
        with strict_server(refuses) as (url, bodies):
            words = ("judge", "pairwise", tmp_path / "ours.json", base, "--questions", base, "--judge", url)
            said = invoke(*words, "--judge-model", "j", "-o", tmp_path / output).output
            first = (tmp_path / output / "judged.json").read_bytes()
            count = len(bodies)
            invoke(*words, "--judge-model", "j", "-o", tmp_path / output)
            if "gave no reply" not in said:
                assert (len(bodies), (tmp_path / output / "judged.json").read_bytes()) == (count, first)
        return said

    told = "only members may ask [b]today[/b]"
    said = ask(lambda body: {"error": {"message": told}}, "refused")
    assert f'the judge gave no reply: http 400: {{"error": {{"message": "{told}"}}}}' in said
    assert judged(tmp_path / "refused")["refused"].keys() == {"http 400"}
    said = ask(reasoning_model, "asked")
    assert "max_tokens is sent as max_completion_tokens, temperature is left out" in said
    found = judged(tmp_path / "asked")
    assert found["fields"] == {"max_tokens": "sent as max_completion_tokens", "temperature": "left out"}
    assert found["counts"]["judged"] == 12
    with strict_server(lambda body: None) as (url, _):
        words = ("judge", "pairwise", tmp_path / "ours.json", base, "--questions", base, "--judge", url)
        invoke(*words, "--judge-model", "another", "-o", tmp_path / "asked", "--overwrite")
    assert judged(tmp_path / "asked")["fields"] == {}


def test_the_folder_that_answer_writes_is_judged(tmp_path: Path) -> None:
    questions = [{"uid": f"q{n}", "category": "arena", "prompt": f"What is {n}+1?"} for n in range(2)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    for model in ("elm-weak", "elm-weaker"):
        words = ("answer", tmp_path / "questions.jsonl", f"micro:{model}", "--max-new-tokens", 8)
        invoke(*words, "-o", tmp_path / model)
    with judge_server() as server:
        words = ("judge", "pairwise", tmp_path / "elm-weak", tmp_path / "elm-weaker")
        where = ("--questions", tmp_path / "questions.jsonl", "--judge", server.url, "--judge-model", "j")
        invoke(*words, *where, "-o", tmp_path / "out")
    found = judged(tmp_path / "out")
    assert (found["model"], found["opponent"]) == ("elm-weak", "elm-weaker")
    assert (found["counts"]["questions"], found["counts"]["not_answered"]) == (2, 0)
