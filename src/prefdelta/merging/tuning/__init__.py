"""Choosing what to merge, how, and how much of it, by the score on validation items.

What needs torch is imported when it is first used: a space of methods, options and scales is checked without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdelta.core.lazy import lazily
from prefdelta.merging.tuning.space import Space

if TYPE_CHECKING:
    from prefdelta.merging.tuning.adapters import tune_adapters
    from prefdelta.merging.tuning.candidate import Candidate
    from prefdelta.merging.tuning.choice import Choice, choose, select
    from prefdelta.merging.tuning.record import RECORD_NAME, TuningRecord
    from prefdelta.merging.tuning.trials import tune

__all__ = [
    "RECORD_NAME",
    "Candidate",
    "Choice",
    "Space",
    "TuningRecord",
    "choose",
    "select",
    "tune",
    "tune_adapters",
]

__getattr__ = lazily(
    __name__,
    {
        "RECORD_NAME": "record",
        "Candidate": "candidate",
        "Choice": "choice",
        "TuningRecord": "record",
        "choose": "choice",
        "select": "choice",
        "tune": "trials",
        "tune_adapters": "adapters",
    },
)
