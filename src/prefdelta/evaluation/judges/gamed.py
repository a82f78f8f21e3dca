"""AlpacaEval's own numbers for length control, from its published ``df_gamed.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.regular import regular
from prefdelta.evaluation.judges.lengthcontrol import GamedRows
from prefdelta.evaluation.statistics import Array

HUB = "hub"
"""In place of a path: the file of the data set on the Hugging Face Hub."""

_DATASET, _FILE = "tatsu-lab/alpaca_eval", "df_gamed.csv"


def gamed_file(named: str) -> Path:
    """The file that ``--gamed`` names; with ``hub`` it is fetched into the Hub's cache, or found there.

    Raises:
        PrefdeltaError: the Hub cannot be reached and its cache has no copy.
    """
    if named != HUB:
        return Path(named)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(_DATASET, _FILE, repo_type="dataset", etag_timeout=10))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise PrefdeltaError(
            f"cannot fetch {_FILE} of {_DATASET} from the Hub ({type(error).__name__}); download it elsewhere and give "
            f"its path, --gamed {_FILE}, or leave --gamed out."
        ) from error


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
        with regular(path).open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        index = [int(float(row["index"])) for row in rows]
        columns = {
            name: np.array([float(row[name] or "nan") for row in rows])
            for name in ("preference", "std_delta_len", "instruction_difficulty")
        }
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
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
    difficulties = np.array([difficulty[place] for place in range(questions)])
    shares = (gamed.preferences >= 0) & (gamed.preferences <= 1)
    numbers = np.concatenate([gamed.lengths, gamed.difficulties, difficulties])
    if not (shares.all() and np.isfinite(numbers).all()):
        raise PrefdeltaError(
            f"cannot read the gamed baselines {path}: a preference is not from 0 to 1, or a length or a difficulty is "
            "no number."
        )
    return gamed, difficulties
