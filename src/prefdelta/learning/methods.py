"""The table of learned merges: which directions get a coefficient of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefdelta.errors import PrefdeltaError, did_you_mean
from prefdelta.learning.directions import Directions, aligned_cores, rank_columns, shared_basis, whole_updates
from prefdelta.lowrank import LowRank


@dataclass(frozen=True)
class LearnedMethod:
    """What is learned.

    Attributes:
        name: what recipes and the command line call it.
        summary: one line for lists.
        paper: where it comes from.
        directions: the directions of one module, from the adapters' updates of it in float64.
        tied: whether all modules share one set of coefficients.
    """

    name: str
    summary: str
    paper: str
    directions: Callable[[Sequence[LowRank]], Directions]
    tied: bool = False


_TARA = "TARA-Merging, arXiv 2603.26299"
_ADA = "AdaMerging, arXiv 2310.02575"
_GAM = "Preference Delta Aggregation, arXiv 2606.00357, with learned weights"

LEARNED: dict[str, LearnedMethod] = {
    method.name: method
    for method in (
        LearnedMethod("tara-a", "One coefficient per rank-1 column of every adapter.", _TARA, rank_columns),
        LearnedMethod(
            "tara-b", "One coefficient per adapter and direction of a shared singular basis.", _TARA, shared_basis
        ),
        LearnedMethod("ada-task", "One coefficient per adapter.", _ADA, whole_updates, tied=True),
        LearnedMethod("ada-module", "One coefficient per adapter and module.", _ADA, whole_updates),
        LearnedMethod(
            "gam-task", "One coefficient per adapter on GAM's aligned cores.", _GAM, aligned_cores, tied=True
        ),
        LearnedMethod(
            "gam-module", "One coefficient per adapter and module on GAM's aligned cores.", _GAM, aligned_cores
        ),
    )
}
"""All learned merges by name."""


def get_learned(name: str) -> LearnedMethod:
    """The learned merge called ``name``.

    Raises:
        PrefdeltaError: there is none; the message names the nearest.
    """
    try:
        return LEARNED[name]
    except KeyError:
        raise PrefdeltaError(f"there is no learned merge {name!r}; {did_you_mean(name, LEARNED)}") from None
