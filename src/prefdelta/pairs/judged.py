"""Published preferences in the forms of their publishers: people's or judges' verdicts on two answers.

A verdict of "equal" makes no pair; such rows are counted. An answer's ``finish`` is not in these files and is taken to
be ``stop``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Message, Pair, Sample, Span

Row = Mapping[str, Any]

_ROLES = {"system": "system", "human": "user", "gpt": "assistant"}


def read_judged(path: Path, form: str) -> tuple[list[Pair], int]:
    """The pairs of a file, and how many rows name neither answer the better one.

    Args:
        path: a ``.json`` file that holds a list.
        form: a key of :data:`FORMS`.

    Raises:
        PrefdeltaError: the file cannot be read, or a row is not of that form.
    """
    try:
        rows = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise PrefdeltaError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(rows, list):
        raise PrefdeltaError(f"{path} holds no list of rows.")
    name = path.stem if path.stem != "dataset" else path.parent.name
    pairs, undecided = [], 0
    for number, row in enumerate(rows):
        try:
            found = FORMS[form](row, f"{name}-{number}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PrefdeltaError(f"{path}, entry {number}: not of the form {form} ({error!r}).") from error
        if found is None:
            undecided += 1
        else:
            pairs.append(found)
    return pairs, undecided


def _llamafactory(row: Row, name: str) -> Pair:
    """LLaMA-Factory's ShareGPT-style preferences: ``conversations``, ``chosen``, ``rejected``."""
    prompt = tuple({"role": _ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"])
    return _pair(name, "llamafactory", prompt, row["chosen"]["value"], row["rejected"]["value"])


def _pandalm(row: Row, name: str) -> Pair | None:
    """PandaLM's test set: three people say 1, 2, or 0 for equal; what two of them say counts."""
    votes = Counter(int(row[f"annotator{number}"]) for number in (1, 2, 3))
    winner, count = votes.most_common(1)[0]
    if winner == 0 or count < 2:
        return None
    asked = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
    return _decided(name, "pandalm", asked, (row["response1"], row["response2"]), winner)


def _llmbar(row: Row, name: str) -> Pair:
    """LLMBar: ``label`` says which output follows the instruction."""
    return _decided(name, "llmbar", row["input"], (row["output_1"], row["output_2"]), int(row["label"]))


def _alpaca_eval(row: Row, name: str) -> Pair | None:
    """AlpacaEval's annotations: ``preference`` runs from 1 (output 1 is better) to 2; 1.5 is a draw."""
    preference = row["preference"]
    if preference is None or preference == 1.5:
        return None
    if not 1 <= preference <= 2:
        raise ValueError(f"preference {preference!r}")
    winner = 1 if preference < 1.5 else 2
    return _decided(name, row["dataset"], row["instruction"], (row["output_1"], row["output_2"]), winner)


FORMS: Mapping[str, Callable[[Row, str], Pair | None]] = {
    "llamafactory": _llamafactory,
    "pandalm": _pandalm,
    "llmbar": _llmbar,
    "alpaca-eval-judgements": _alpaca_eval,
}


def _decided(name: str, task: str, asked: str, answers: tuple[str, str], winner: int) -> Pair:
    if winner not in (1, 2):
        raise ValueError(f"verdict {winner!r}")
    chosen, rejected = answers if winner == 1 else answers[::-1]
    return _pair(name, task, ({"role": "user", "content": asked},), chosen, rejected)


def _pair(name: str, task: str, prompt: tuple[Message, ...], chosen: str, rejected: str) -> Pair:
    good, bad = (Sample(name, (Span(text),) if text else (), "stop", tokens=0) for text in (chosen, rejected))
    return Pair(name, task, prompt, good, bad)
