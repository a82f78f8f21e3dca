"""What a judged comparison leaves on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.files import file_digest, replace_text, write_json
from prefdelta.core.outputs import check_output, locked
from prefdelta.core.records import Record, digest, to_json
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.store import Store
from prefdelta.evaluation.judges.answers import Answers, Question
from prefdelta.evaluation.judges.games import Played
from prefdelta.evaluation.judges.mtbench import Graded
from prefdelta.evaluation.results import JudgedResults

REPLIES = "replies.jsonl"


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
    folder: Path, rows: Sequence[Any], records: Sequence[Record], summary: Mapping[str, Any], malformed: Sequence[str]
) -> None:
    """Write ``games.jsonl`` (every judgement), ``records.jsonl`` (for `prefdelta compare`) and ``judged.json``."""
    replace_text(folder / "games.jsonl", "".join(to_json(row) + "\n" for row in rows))
    replace_text(folder / "records.jsonl", "".join(to_json(record) + "\n" for record in records))
    judged = JudgedResults.model_validate({**summary, "malformed": malformed})
    write_json(folder / "judged.json", judged.to_json())


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
