"""Results that cannot be true as they stand: every answer cut off, none readable, or all wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

_NEARLY_ALL = 90.0  # percent


class Measured(Protocol):
    """The percentages of a task that tell whether its answers are sound."""

    @property
    def score(self) -> float:
        """The mean score."""
        ...

    @property
    def unparsed(self) -> float:
        """Answers in which the scorer found none."""
        ...

    @property
    def truncated(self) -> float:
        """Answers that the token budget cut off."""
        ...


def doubts(models: Mapping[str, Mapping[str, Measured]]) -> list[str]:
    """What speaks against some models' results, a clause for each task with what to look at.

    Of a task only the likeliest cause is told: answers that are cut off cannot be read, and what cannot be read scores
    0. Scores of 0 are doubted where all models have them.

    Args:
        models: model -> task -> how it did.
    """
    found = []
    for task in next(iter(models.values()), {}):
        rows = {model: tasks[task] for model, tasks in models.items()}
        cut = [model for model, row in rows.items() if row.truncated >= _NEARLY_ALL]
        unread = [model for model, row in rows.items() if row.unparsed >= _NEARLY_ALL]
        if cut:
            share = min(rows[model].truncated for model in cut)
            found.append(f"{_share(share)} of {_names(cut)} to {task} were cut off: raise max_new_tokens")
        elif unread:
            share = min(rows[model].unparsed for model in unread)
            found.append(f"{_share(share)} of {_names(unread)} to {task} hold no answer that the scorer can read")
        elif all(row.score == 0 for row in rows.values()):
            found.append(f"every answer of {' and '.join(rows)} to {task} scores 0")
    return found


def _names(models: Sequence[str]) -> str:
    return f"the answers of {' and '.join(models)}"


def _share(percent: float) -> str:
    return "all" if percent == 100 else f"{percent:.0f} %"
