"""What a judged comparison leaves on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.judging.answers import Answers, Question
from prefdelta.judging.games import Played
from prefdelta.judging.mtbench import Graded
from prefdelta.records import Record, digest, to_json
from prefdelta.store import replace_text, write_json
from prefdelta.worklog import WorkLog

REPLIES = "replies.jsonl"


def open_log(folder: Path) -> WorkLog:
    """The judge's replies of an earlier, perhaps killed, run into the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return WorkLog(folder / REPLIES)


def write_judged(
    folder: Path, rows: Sequence[Any], records: Sequence[Record], summary: Mapping[str, Any], malformed: Sequence[str]
) -> None:
    """Write ``games.jsonl`` (every judgement), ``records.jsonl`` (for `prefdelta compare`) and ``judged.json``."""
    replace_text(folder / "games.jsonl", "".join(to_json(row) + "\n" for row in rows))
    replace_text(folder / "records.jsonl", "".join(to_json(record) + "\n" for record in records))
    write_json(folder / "judged.json", {"schema": 1, **summary, "malformed": list(malformed)})


def pair_records(task: str, played: Played, scorer: str) -> list[Record]:
    """One record a judged question; its score is the mean preference over both orders."""
    return [
        Record(
            task=task,
            item=item,
            score=sum(game.preference or 0.0 for game in games) / 2,
            parsed=" | ".join(game.verdict or "" for game in games),
            output=played.matches[item].answer,
            truncated=False,
            tokens=played.matches[item].tokens[0] or len(played.matches[item].answer.split()),
            prompt_hash=digest(played.matches[item].question),
            scorer=scorer,
        )
        for item, games in played.pairs().items()
    ]


def grade_records(
    task: str, graded: Graded, questions: Mapping[str, Question], answers: Answers, scorer: str
) -> list[Record]:
    """One record a graded turn; its score is the rating divided by 10, its group the question."""
    records = []
    for entry in graded.grades:
        if entry.rating is not None:
            output = answers.rows[entry.item].turns[entry.turn - 1]
            records.append(
                Record(
                    task=task,
                    item=f"{entry.item}/{entry.turn}",
                    score=entry.rating / 10,
                    parsed=f"{entry.rating:g}",
                    output=output,
                    truncated=False,
                    tokens=len(output.split()),
                    prompt_hash=digest(questions[entry.item].turns[: entry.turn]),
                    scorer=scorer,
                    group=entry.item,
                )
            )
    return records
