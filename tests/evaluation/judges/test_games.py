"""Whole comparisons with a real server as the judge: honest, slow, wrong, or gone."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from judge_server import JudgeServer, judge_server
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.judges.answers import Answered, Answers, Question
from prefdelta.evaluation.judges.benchmarks import alpaca_rule, arena_scores, labelled_rule, pairwise_scores
from prefdelta.evaluation.judges.games import Played, play
from prefdelta.evaluation.judges.judge import Ask, RemoteJudge, ask_all
from prefdelta.evaluation.judges.pairwise import position, preferences, win_rate
from prefdelta.evaluation.judges.prompts import Template
from prefdelta.recipe import Server


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with judge_server() as state:
        yield state


def judge(url: str, timeout: float = 60) -> RemoteJudge:
    return RemoteJudge(Server(url=url, model="judge", concurrency=8, timeout=timeout, attempts=2))


def answers(name: str, texts: dict[str, str]) -> Answers:
    return Answers(name, {key: Answered(key, (text,)) for key, text in texts.items()}, ())


def played(server: JudgeServer, log: Path, ours: dict[str, str], theirs: dict[str, str], **options: Any) -> Played:
    questions = {key: Question(key, (f"about {key}",)) for key in {**ours, **theirs}}
    rule, who = options.pop("rule", labelled_rule()), judge(server.url, options.pop("timeout", 60))
    return play(questions, answers("a", ours), answers("b", theirs), rule, who, ResumableRows(log), **options)


def test_every_match_is_judged_in_both_orders(server: JudgeServer, tmp_path: Path) -> None:
    result = played(
        server,
        tmp_path / "log",
        {"better": "good good", "worse": "bad", "even": "good one", "same": "equal"},
        {"better": "good", "worse": "good", "even": "good two", "same": "equal"},
    )
    assert preferences(result) == {"better": 1.0, "worse": 0.0, "even": 0.5, "same": 0.5}
    assert [game.verdict for game in result.games[:2]] == ["A>B", "B>A"]
    assert [game.model_first for game in result.games[:2]] == [True, False]
    assert [game.verdict for game in result.games[6:]] == ["same answer"] * 2
    assert position(result) == {"prefers_first": 50.0, "turned": 0.0}
    assert (result.counts["questions"], result.counts["judged"]) == (4, 4)


def test_alpaca_reads_probabilities(server: JudgeServer, tmp_path: Path) -> None:
    result = played(server, tmp_path / "log", {"q": "good", "p": "bad"}, {"q": "bad", "p": "bad!"}, rule=alpaca_rule())
    assert preferences(result) == pytest.approx({"q": 0.9, "p": 0.5})


def test_a_judge_that_only_looks_at_the_order_gives_an_even_score(server: JudgeServer, tmp_path: Path) -> None:
    class First:
        name = "first"
        fields = MappingProxyType[str, str]({})

        def ask(self, asks, arrived):  # type: ignore[no-untyped-def]
            from prefdelta.generation.completion import Completion

            replies = [Completion("[[A>>B]]", "stop") for _ in asks]
            for place, reply in enumerate(replies):
                arrived(place, reply)
            return replies

    questions = {key: Question(key, ("q",)) for key in "abcdef"}
    ours, theirs = answers("a", dict.fromkeys("abcdef", "x")), answers("b", dict.fromkeys("abcdef", "y"))
    result = play(questions, ours, theirs, labelled_rule(), First(), ResumableRows(tmp_path / "log"))
    assert set(preferences(result).values()) == {0.5}
    assert position(result) == {"prefers_first": 100.0, "turned": 100.0}
    assert pairwise_scores(result)["win_rate"] == 50


def test_no_trouble_loses_an_item(server: JudgeServer, tmp_path: Path) -> None:
    """Each trouble is a question's own; every question is accounted for and the good ones are judged."""
    words = ("CRASH", "BUSY", "GARBAGE", "EMPTYBODY", "NOCHOICES", "NULLTEXT", "WRONG", "HANGUP",
             "TOOLONG", "CUTOFF")  # fmt: skip
    ours = {f"fine-{number}": "good " * number for number in range(6)} | {word: f"good {word}" for word in words}
    ours |= {
        "half a pair": "HALFPAIR good good good \ufffd",
        "empty": "",
        "huge": "good " * 40_000,
        "thinking": "THINKING good",
        "no opponent": "good",
    }
    theirs = {key: "good good" for key in ours if key != "no opponent"} | {"no answer": "good"}
    result = played(server, tmp_path / "log", ours, theirs, malformed=2)
    assert result.counts == {
        "questions": len(ours) + 1,
        "judged": 10,
        "not_judged": len(words),
        "not_answered": 2,
        "empty": 2,  # fine-0 as well
        "empty_opponent": 0,
        "malformed": 2,
        "unread": 4,
        "cut_off": 2,
        "refused: http 400": 2,
        "refused: http 429": 2,
        "refused: http 500": 2,
        "refused: malformed": 6,
        "refused: no connection": 2,
    }
    assert preferences(result)["huge"] == 1.0
    assert preferences(result)["empty"] == 0.0
    assert preferences(result)["thinking"] == 0.0  # not the [[B>>A]] of the thought
    assert {game.item for game in result.games} == set(ours) - {"no opponent"}
    assert all(game.trouble for game in result.games if game.verdict is None)


def test_a_judge_that_is_too_slow_is_asked_again_by_the_next_run(server: JudgeServer, tmp_path: Path) -> None:
    ours, theirs = {"SLOW": "SLOW", "DRIP": "DRIP"}, {"SLOW": "good", "DRIP": "good"}
    slow = played(server, tmp_path / "log", ours, theirs, timeout=0.3)
    assert (slow.counts["judged"], slow.counts["not_judged"], slow.counts["refused: timeout"]) == (0, 2, 4)
    assert not (tmp_path / "log").exists()


def test_a_judge_that_is_gone_costs_no_item(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    questions = {str(number): Question(str(number), (f"question {number}",)) for number in range(40)}
    ours, theirs = answers("a", dict.fromkeys(questions, "x")), answers("b", dict.fromkeys(questions, "y"))
    gone = RemoteJudge(Server(url=f"http://127.0.0.1:{port}/v1", model="j", concurrency=8, attempts=1))
    result = play(questions, ours, theirs, labelled_rule(), gone, ResumableRows(tmp_path / "log"))
    assert (result.counts["judged"], result.counts["not_judged"]) == (0, 40)
    assert result.counts["refused: no connection"] + result.counts["refused: not asked"] == 80
    assert "win_rate" not in arena_scores(result)
    assert "win_rate" not in pairwise_scores(result)


def test_replies_are_kept_and_only_failures_asked_again(server: JudgeServer, tmp_path: Path) -> None:
    ours, theirs = {"a": "good", "b": "CRASH good", "c": "bad"}, {"a": "bad", "b": "bad", "c": "good"}
    first = played(server, tmp_path / "log", ours, theirs)
    before = server.requests[""], server.requests["CRASH"]
    second = played(server, tmp_path / "log", ours, theirs)
    assert second.games == first.games
    assert (server.requests[""], server.requests["CRASH"]) == (before[0], before[1] + 4)


def test_a_torn_last_line_is_asked_again(server: JudgeServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = played(server, log, {"a": "good", "b": "bad"}, {"a": "bad", "b": "good"})
    log.write_bytes(log.read_bytes()[:-7])  # a kill in the middle of the last write
    before = server.requests[""]
    assert played(server, log, {"a": "good", "b": "bad"}, {"a": "bad", "b": "good"}).games == first.games
    assert server.requests[""] == before + 1


def test_equal_requests_are_sent_once(server: JudgeServer, tmp_path: Path) -> None:
    ask = Ask(({"role": "user", "content": "good"},), 10)
    before = server.requests[""]
    replies = ask_all(judge(server.url), [ask] * 5, ResumableRows(tmp_path / "log"))
    assert len(set(map(id, replies))) == 1
    assert server.requests[""] == before + 1
    kept = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["value"]["text"] for entry in kept] == ["It is fine. [[2]]"]


def test_answers_are_never_taken_for_fields_of_the_prompt() -> None:
    template = Template("{{json}} {question}", "{answer_a} {answer_b} {other}")
    fields = {"question": "{answer_b}", "answer_a": "{{x}} {question}", "answer_b": "}{"}
    system, user = template.messages(fields)
    assert system["content"] == "{json} {answer_b}"
    assert user["content"] == "{{x}} {question} }{ {other}"


def test_the_interval_of_a_rate_ends_where_rates_end() -> None:
    found = win_rate([1.0, 0.0, 0.5])
    assert (found["win_rate"], found["low"], found["high"]) == (50, 0, 100)
    inner = win_rate([1.0, 0.0] * 50)
    assert 0 < inner["low"] < 50 < inner["high"] < 100
