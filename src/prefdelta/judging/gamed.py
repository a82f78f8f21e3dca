"""AlpacaEval's own numbers for length control, from its published ``df_gamed.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array
from prefdelta.judging.lengthcontrol import GamedRows


def read_gamed(path: Path, questions: int) -> tuple[GamedRows, Array]:
    """The rows of gamed baselines, and the difficulty of each question in the benchmark's order.

    Args:
        path: ``df_gamed.csv`` of the data set ``tatsu-lab/alpaca_eval``: columns ``preference``, ``index``,
            ``std_delta_len`` and ``instruction_difficulty``.
        questions: how many the benchmark has.

    Raises:
        PrefdeltaError: the file cannot be read, or is not about this many questions.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        index = [int(float(row["index"])) for row in rows]
        columns = {
            name: np.array([float(row[name] or "nan") for row in rows])
            for name in ("preference", "std_delta_len", "instruction_difficulty")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PrefdeltaError(f"cannot read the gamed baselines {path}: {error!r}.") from error
    difficulty = dict(zip(index, columns["instruction_difficulty"].tolist(), strict=True))
    if sorted(difficulty) != list(range(questions)):
        raise PrefdeltaError(
            f"{path} is about {len(difficulty)} questions and the baseline answers {questions}; they belong to "
            "AlpacaEval 2's 805 questions and its own baseline and judge only."
        )
    known = ~np.isnan(columns["preference"])
    gamed = GamedRows(
        columns["preference"][known], columns["std_delta_len"][known], columns["instruction_difficulty"][known]
    )
    return gamed, np.array([difficulty[place] for place in range(questions)])
