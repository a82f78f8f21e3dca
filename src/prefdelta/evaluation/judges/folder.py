"""What a judged comparison leaves on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.files import file_digest, replace_text, write_json
from prefdelta.core.outputs import check_output, locked
from prefdelta.core.records import RECORDS, Item, Record, digest, to_json
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.store import Store
from prefdelta.evaluation.judges.answers import Answers, Question
from prefdelta.evaluation.judges.games import Played
from prefdelta.evaluation.judges.mtbench import Graded
from prefdelta.evaluation.results import JudgedResults

REPLIES = "replies.jsonl"
QUESTIONS = "questions.jsonl"
OPPONENT = "opponent.jsonl"


def judge_to_folder(
    output: Path,
    inputs: Sequence[Path],
    asked: Mapping[str, Any],
    make: Callable[[Path], None],
    *,
    reads: Sequence[Path] = (),
    overwrite: bool,
) -> None:
    """Make the folder of a judged comparison; replies that were kept there, or by a killed run, are not paid for again.

    Args:
        output: the folder.
        inputs: the files that are judged, and those that say how.
        asked: what else decides the result.
        make: writes into a working folder, which holds the replies.
        reads: what else is read, so that the output is never placed there.
        overwrite: whether a folder that was made from something else is replaced.

    Raises:
        PrefdeltaError: the output may not be replaced, or another process is making it.
    """
    check_output(output, inputs=[*inputs, *reads], overwrite=True)
    with locked(output):
        store = Store(output.parent, journal=False)
        made_of: dict[str, Any] = {"config": {**asked, "files": [file_digest(path) for path in inputs]}, "inputs": {}}
        again = store.find(output.name, stage="judged", **made_of) is not None

        def work(folder: Path) -> None:
            if (output / REPLIES).is_file() and not (folder / REPLIES).is_file():
                shutil.copyfile(output / REPLIES, folder / REPLIES)
            make(folder)

        overwrite = overwrite or again
        store.build(output.name, stage="judged", **made_of, make=work, resume=True, overwrite=overwrite)


def open_log(folder: Path) -> ResumableRows:
    """The judge's replies that are there."""
    return ResumableRows(folder / REPLIES)


def write_judged(
    folder: Path,
    rows: Sequence[Any],
    records: Sequence[Record],
    asked: Sequence[Item],
    summary: Mapping[str, Any],
    malformed: Sequence[str],
    *,
    opponent: Sequence[Record] = (),
) -> None:
    """Write what a judge made of answers.

    ``games.jsonl`` has every judgement, ``records.jsonl`` what `prefdelta compare` reads, ``questions.jsonl`` what was
    asked, ``opponent.jsonl`` the opponent's answers where there is one, and ``judged.json`` the scores.
    """
    files = {"games.jsonl": rows, RECORDS: records, QUESTIONS: asked, OPPONENT: opponent}
    for name, lines in files.items():
        if lines or name != OPPONENT:
            replace_text(folder / name, "".join(to_json(line) + "\n" for line in lines))
    judged = JudgedResults.model_validate({**summary, "malformed": malformed})
    write_json(folder / "judged.json", judged.to_json())


def pair_records(task: str, played: Played, scorer: str) -> tuple[list[Record], list[Record]]:
    """A record of the model and one of its opponent for each judged question, in two lists.

    A score is the mean preference over both orders.
    """
    ours: list[Record] = []
    theirs: list[Record] = []
    for item, games in played.pairs().items():
        match, score = played.matches[item], sum(game.preference or 0.0 for game in games) / 2
        for records, preferred, text, tokens in (
            (ours, score, match.answer, match.tokens[0]),
            (theirs, 1 - score, match.opponent, match.tokens[1]),
        ):
            records.append(
                Record(
                    task=task,
                    item=item,
                    score=preferred,
                    parsed=" | ".join(game.verdict or "" for game in games),
                    output=text,
                    truncated=False,
                    tokens=tokens or len(text.split()),
                    prompt_hash=digest(match.question),
                    scorer=scorer,
                )
            )
    return ours, theirs


def judged_questions(task: str, records: Sequence[Record], turns: Mapping[str, Sequence[str]]) -> list[Item]:
    """What was asked for each record, from the questions' turns by id; a record ``ID/2`` was asked the first two."""
    found = []
    for record in records:
        name, _, turn = (record.item, "", "1") if record.item in turns else record.item.rpartition("/")
        asked = turns[name][: int(turn)]
        found.append(Item(record.item, task, tuple({"role": "user", "content": text} for text in asked)))
    return found


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
