"""MT-Bench on its own questions and prompts, graded by a real server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from judge_server import judge_server
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.judges.answers import Answered, Answers, Question, read_answers, read_questions
from prefdelta.evaluation.judges.judge import RemoteJudge
from prefdelta.evaluation.judges.mtbench import Grade, Graded, grade, mtbench_scores, read_templates
from prefdelta.evaluation.judges.prompts import Template
from prefdelta.recipe import Server


def test_the_published_benchmark(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "judge" / "mt_bench"
    questions, _ = read_questions(folder / "question.jsonl")
    references = read_answers(folder / "reference_answer" / "gpt-4.jsonl")
    templates = read_templates(folder / "judge_prompts.jsonl")
    rows = {name: Answered(name, ("good " * 3, "good " * 5)) for name in questions if name != "81"}
    model = Answers("m", {**rows, "82": Answered("82", ("only one turn",))}, ())
    with judge_server() as server:
        judge = RemoteJudge(Server(url=server.url, model="j"))
        graded = grade(questions, model, references, templates, judge, ResumableRows(tmp_path / "log"))
        prompts = ["\n".join(message["content"] for message in body["messages"]) for body in server.bodies]
    assert (graded.counts["questions"], graded.counts["judged"], graded.counts["not_answered"]) == (160, 157, 3)
    guided = [prompt for prompt in prompts if "Reference" in prompt]
    assert len(guided) == 2 * len(references.rows)
    assert all("{" + name + "}" not in prompt for prompt in prompts for name in ("question", "answer", "question_2"))
    solved = next(prompt for prompt in guided if questions["111"].turns[1] in prompt)
    assert references.rows["111"].turns[0] in solved
    assert references.rows["111"].turns[1] in solved
    assert model.rows["111"].turns[1] in solved
    scores = mtbench_scores(graded)
    assert scores["low"] <= scores["rating"] <= scores["high"]
    assert set(scores["categories"]) == {question.category for question in questions.values()}
    ratings = [entry.rating for entry in graded.grades if entry.rating is not None]
    assert scores["rating"] == pytest.approx(np.mean(ratings))
    assert scores["turn_2"] > scores["turn_1"]


def some(*ratings: float | None) -> Graded:
    grades = [Grade(str(place // 2), place % 2 + 1, "x", value, "", "") for place, value in enumerate(ratings)]
    return Graded(grades, {})


def test_scores() -> None:
    scores = mtbench_scores(some(4, 6, 8, None))
    assert (scores["rating"], scores["turn_1"], scores["turn_2"]) == (6, 6, 6)
    assert mtbench_scores(some(None, None)) == {}
    assert "low" not in mtbench_scores(some(4, 6))
    assert mtbench_scores(some(4, None, 5, None))["turn_2"] is None


def test_turns_of_one_question_are_resampled_together() -> None:
    rng = np.random.default_rng(0)
    shared = rng.integers(1, 11, 60).astype(float)
    together = mtbench_scores(some(*np.repeat(shared, 2).tolist()))
    apart = mtbench_scores(some(*rng.permutation(np.repeat(shared, 2)).tolist()))
    assert together["high"] - together["low"] > 1.2 * (apart["high"] - apart["low"])


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    names = ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn")
    templates = {name: Template("", "{question} {answer}") for name in names}
    questions = {"1": Question("1", ("a", "b"), "math")}
    model = Answers("m", {"1": Answered("1", ("x", "y"))}, ())
    log = ResumableRows(tmp_path / "log")
    with judge_server() as server:
        judge = RemoteJudge(Server(url=server.url, model="j"))
        for references in (None, replace(model, rows={})):
            with pytest.raises(PrefdeltaError, match=r"question 1 \(math\) has no reference answer for turn 1"):
                grade(questions, model, references, templates, judge, log)
    path = tmp_path / "prompts.jsonl"
    rows = [{"name": name, "system_prompt": "", "prompt_template": "x"} for name in names[:2]]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(PrefdeltaError, match="no prompt 'single-math-v1'"):
        read_templates(path)
    with pytest.raises(PrefdeltaError, match="cannot read"):
        read_templates(tmp_path / "none")
