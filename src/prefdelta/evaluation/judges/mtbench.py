"""MT-Bench (Zheng et al. 2023, arXiv 2306.05685): two turns, each graded from 1 to 10.

Questions, reference answers and the judge's prompts are read from FastChat's files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import read_objects
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.judges.answers import Answers, Question
from prefdelta.evaluation.judges.games import troubles, why_unread
from prefdelta.evaluation.judges.judge import Ask, Judge, Progress, ask_all
from prefdelta.evaluation.judges.prompts import Template
from prefdelta.evaluation.judges.verdicts import rating
from prefdelta.evaluation.statistics import bootstrap_interval
from prefdelta.generation.completion import Refusal, Reply

_WITH_REFERENCE = ("math", "reasoning", "coding")
_MAX_TOKENS = 2048
_TURNS = 2


@dataclass(frozen=True)
class Grade:
    """The grade of one turn; ``rating`` is ``None`` where there is none, and ``trouble`` says why."""

    item: str
    turn: int
    category: str
    rating: float | None
    trouble: str
    reply: str


@dataclass(frozen=True)
class Graded:
    """All grades, and what became of every turn; the counts are those of ``games.Played``, of turns."""

    grades: Sequence[Grade]
    counts: Mapping[str, int]


def read_templates(path: Path) -> dict[str, Template]:
    """FastChat's ``judge_prompts.jsonl``: the four single-answer prompts, by name.

    Raises:
        PrefdeltaError: the file cannot be read, or lacks one of them.
    """
    try:
        found = {
            row["name"]: Template(row["system_prompt"].strip(), row["prompt_template"]) for _, row in read_objects(path)
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise PrefdeltaError(f"cannot read the judge's prompts {path}: {error}.") from error
    for name in ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn"):
        if name not in found:
            raise PrefdeltaError(f"{path} has no prompt {name!r}; give FastChat's judge_prompts.jsonl.")
    return found


def grade(
    questions: Mapping[str, Question],
    answers: Answers,
    references: Answers | None,
    templates: Mapping[str, Template],
    judge: Judge,
    log: ResumableRows,
    progress: Progress | None = None,
    *,
    malformed: int = 0,
) -> Graded:
    """Grade both turns of every question that was answered.

    Raises:
        PrefdeltaError: a question of maths, reasoning or coding has no reference answer.
    """
    turns = [
        (question, turn)
        for name, question in questions.items()
        for turn in range(min(_TURNS, len(question.turns)))
        if name in answers.rows and turn < len(answers.rows[name].turns)
    ]
    asks = [_ask(question, turn, answers, references, templates) for question, turn in turns]
    replies = ask_all(judge, asks, log, progress)
    grades = [_grade(question, turn, reply) for (question, turn), reply in zip(turns, replies, strict=True)]
    wanted = sum(min(_TURNS, len(question.turns)) for question in questions.values())
    counts = {
        "questions": wanted,
        "judged": sum(entry.rating is not None for entry in grades),
        "not_judged": sum(entry.rating is None for entry in grades),
        "not_answered": wanted - len(turns),
        "empty": sum(not answers.rows[question.id].turns[turn].strip() for question, turn in turns),
        "malformed": malformed + len(answers.malformed) + (len(references.malformed) if references else 0),
        **troubles([entry.trouble for entry in grades]),
    }
    return Graded(grades, counts)


def mtbench_scores(graded: Graded) -> dict[str, Any]:
    """Mean ratings: overall with a 95 % bootstrap interval over questions, by turn and by category."""
    rated = [entry for entry in graded.grades if entry.rating is not None]
    if not rated:
        return {}
    ratings = np.array([entry.rating for entry in rated], dtype=np.float64)
    result: dict[str, Any] = {"rating": float(ratings.mean())}
    places = {item: place for place, item in enumerate(dict.fromkeys(entry.item for entry in rated))}
    if len(places) > 1:
        clusters = np.array([places[entry.item] for entry in rated], dtype=np.int64)
        low, high = bootstrap_interval([ratings[None]], clusters=[clusters], generator=np.random.default_rng(0))
        result |= {"low": low, "high": high}
    for turn in range(_TURNS):
        found = [entry.rating for entry in rated if entry.turn == turn + 1]
        result[f"turn_{turn + 1}"] = float(np.mean(found)) if found else None  # type: ignore[arg-type]
    by_category: dict[str, list[float]] = {}
    for entry, value in zip(rated, ratings.tolist(), strict=True):
        by_category.setdefault(entry.category, []).append(value)
    return {**result, "categories": {name: float(np.mean(values)) for name, values in sorted(by_category.items())}}


def _ask(
    question: Question, turn: int, answers: Answers, references: Answers | None, templates: Mapping[str, Template]
) -> Ask:
    said = answers.rows[question.id].turns
    fields = {"question": question.turns[0], "answer": said[0]}
    for place in range(turn + 1):
        fields |= {f"question_{place + 1}": question.turns[place], f"answer_{place + 1}": said[place]}
    guided = question.category in _WITH_REFERENCE
    if guided:
        known = references.rows[question.id].turns if references and question.id in references.rows else ()
        if len(known) <= turn:
            raise PrefdeltaError(
                f"question {question.id} ({question.category}) has no reference answer for turn {turn + 1}; give "
                "FastChat's reference_answer file."
            )
        fields |= {f"ref_answer_{place + 1}": text for place, text in enumerate(known)}
    name = f"single-{'math-' if guided else ''}v1{'-multi-turn' if turn else ''}"
    return Ask(templates[name].messages(fields), _MAX_TOKENS)


def _grade(question: Question, turn: int, reply: Reply) -> Grade:
    if isinstance(reply, Refusal):
        return Grade(question.id, turn + 1, question.category, None, reply.reason, "")
    found = rating(reply)
    return Grade(
        question.id, turn + 1, question.category, found, why_unread(reply) if found is None else "", reply.text
    )
