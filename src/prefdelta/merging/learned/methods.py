"""The table of learned merges: which directions get a coefficient of their own.

A learned merge is a pure function of one module's updates, ``f(deltas, options) -> Directions``, registered with
:func:`learned_method`. Another package adds one by an entry point of the group ``prefdelta.learned_merges``. As for the
other methods, names and options are known without torch; see :mod:`prefdelta.merging.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefdelta.core.registry import Implementations, Registry, parse_options
from prefdelta.merging.methods.options import GamOptions
from prefdelta.merging.registry import Options

if TYPE_CHECKING:
    from prefdelta.linalg.lowrank import LowRank
    from prefdelta.merging.learned.directions import Directions

    Function = Callable[[Sequence[LowRank], Any], Directions]

_IMPLEMENTED: Implementations[Function] = Implementations("learned merge")


@dataclass(frozen=True)
class LearnedMethod:
    """What is learned.

    Attributes:
        name: what recipes and the command line call it.
        summary: one line for lists.
        paper: where it comes from.
        options: the pydantic model of its options.
        module: the module that implements it.
        tied: whether all modules share one set of coefficients.
    """

    name: str
    summary: str
    paper: str
    options: type[Options]
    module: str
    tied: bool = False

    @property
    def function(self) -> Function:
        """``function(deltas, options)``: the directions of one module, from the adapters' updates of it in float64."""
        return _IMPLEMENTED.of(self.name, self.module)

    def parse(self, options: Options | Mapping[str, Any] | None, count: int) -> Options:
        """Check options given as a mapping, for a number of adapters.

        Raises:
            PrefdeltaError: an option is unknown, has a bad value or does not fit the number of adapters.
        """
        checked = parse_options(self.options, options, owner=f"learned merge {self.name}")
        checked.check_count(count)
        return checked


LEARNED: Registry[LearnedMethod] = Registry("learned merge", "prefdelta.learned_merges")
"""All learned merges by name."""


def implements(*names: str) -> Callable[[Function], Function]:
    """Add the function of declared learned merges."""

    def register(function: Function) -> Function:
        for name in names:
            _IMPLEMENTED.add(name, function)
        return function

    return register


def learned_method(
    name: str, *, summary: str, paper: str, options: type[Options] = Options, tied: bool = False
) -> Callable[[Function], Function]:
    """Register a function that finds directions under ``name``."""

    def register(function: Function) -> Function:
        LEARNED.register(name, LearnedMethod(name, summary, paper, options, function.__module__, tied))
        return implements(name)(function)

    return register


_DIRECTIONS = "prefdelta.merging.learned.directions"
_TARA = "TARA-Merging, arXiv 2603.26299"
_ADA = "AdaMerging, arXiv 2310.02575"
_GAM = "Preference Delta Aggregation, arXiv 2606.00357, with learned weights"

for _name, _summary, _paper, _options in (
    ("tara-a", "One coefficient per rank-1 column of every adapter.", _TARA, Options),
    ("tara-b", "One coefficient per adapter and direction of a shared singular basis.", _TARA, Options),
    ("ada-task", "One coefficient per adapter.", _ADA, Options),
    ("ada-module", "One coefficient per adapter and module.", _ADA, Options),
    ("gam-task", "One coefficient per adapter on GAM's aligned cores.", _GAM, GamOptions),
    ("gam-module", "One coefficient per adapter and module on GAM's aligned cores.", _GAM, GamOptions),
):
    LEARNED.register(_name, LearnedMethod(_name, _summary, _paper, _options, _DIRECTIONS, tied=_name.endswith("-task")))


def get_learned(name: str) -> LearnedMethod:
    """The learned merge called ``name``.

    Raises:
        PrefdeltaError: there is none; the message names the nearest.
    """
    return LEARNED.find(name)
