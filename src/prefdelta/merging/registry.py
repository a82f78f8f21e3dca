"""The table of merge methods.

A method is a pure function of updates, written ``f(deltas, *, weights, options) -> LowRank`` and registered with
:func:`method`. It depends on the ΔW's only, not on how they are factored; an adapter that lacks a module takes part
with a zero update of rank 0. Weights come as the user gave them (all 1 by default): each method says what they mean.
Another package adds a method by an entry point of the group ``prefdelta.merge_methods``.

Name, options and number of adapters of a method are known without its function, so that a mistake in them is told
before torch is imported, which takes seconds: the methods of this package are declared in
:mod:`prefdelta.merging.methods.catalogue`, and the module that implements one is imported when it first merges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefdelta.core.config import Config
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.registry import Implementations, Registry, parse_options

if TYPE_CHECKING:
    from prefdelta.linalg.best_rank import RowBlocks
    from prefdelta.linalg.lowrank import LowRank

    Function = Callable[..., "LowRank | Merged"]
    Blocks = Callable[..., RowBlocks]


class Options(Config):
    """Base of all options models: frozen, and an unknown option is an error. By itself: no options."""

    def check_count(self, count: int) -> None:
        """Refuse a number of adapters that these options do not fit.

        Raises:
            PrefdeltaError: an option names an adapter that is not there, or does not name one for each.
        """


@dataclass(frozen=True)
class Merged:
    """A method's result together with numbers worth reporting about how it came about, by name."""

    delta: LowRank
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Implementation:
    """What a method computes.

    Attributes:
        function: the pure function of updates.
        takes_module: whether the function also takes the module's name, ``module``: to seed its random numbers, or
            to find that module's data.
        full: for a method whose exact result has full rank, ``full(deltas, *, weights, options, module)``: that
            result in blocks of rows, of which ``function`` gives the best approximation of limited rank.
    """

    function: Function
    takes_module: bool = False
    full: Blocks | None = None


_IMPLEMENTED: Implementations[Implementation] = Implementations("merge method")


@dataclass(frozen=True)
class Method:
    """A registered merge method; calling it merges updates in memory.

    Attributes:
        name: what recipes and the command line call it.
        summary: one line for lists.
        paper: where it comes from.
        options: the pydantic model of its options.
        module: the module that implements it.
        adapters: the least and the largest number of adapters that it merges; ``None`` for any number from the least.
    """

    name: str
    summary: str
    paper: str
    options: type[Options]
    module: str
    adapters: tuple[int, int | None] = (1, None)

    @property
    def implementation(self) -> Implementation:
        """What it computes."""
        return _IMPLEMENTED.of(self.name, self.module)

    def __call__(
        self,
        deltas: Sequence[LowRank],
        *,
        weights: Sequence[float] | None = None,
        options: Options | Mapping[str, Any] | None = None,
        module: str = "",
    ) -> LowRank:
        """Merge the updates of one module; see :meth:`run`."""
        return self.run(deltas, weights=weights, options=options, module=module).delta

    def run(
        self,
        deltas: Sequence[LowRank],
        *,
        weights: Sequence[float] | None = None,
        options: Options | Mapping[str, Any] | None = None,
        module: str = "",
    ) -> Merged:
        """Merge the updates of one module in float64 and keep the method's notes.

        ``module`` is its name in the model; methods with random numbers or data of their own need it.

        Raises:
            PrefdeltaError: a wrong number of deltas or of weights, differing shapes, or a bad option.
        """
        from prefdelta.linalg.stack import Stack  # here, as a method is looked up without torch

        checked = self.parse(options)
        self.check_count(len(deltas), checked)
        shapes = sorted({delta.shape for delta in deltas})
        if len(shapes) > 1:
            raise PrefdeltaError(f"updates of shapes {shapes[0]} and {shapes[1]} cannot be merged.")
        result = self.implementation.function(
            Stack.of(deltas),
            weights=checked_weights(weights, len(deltas)),
            options=checked,
            **({"module": module} if self.implementation.takes_module else {}),
        )
        return result if isinstance(result, Merged) else Merged(result)

    def parse(self, options: Options | Mapping[str, Any] | None) -> Options:
        """Check options given as a mapping.

        Raises:
            PrefdeltaError: an option is unknown or has a bad value.
        """
        return parse_options(self.options, options, owner=f"merge method {self.name}")

    def check_count(self, count: int, options: Options) -> None:
        """Refuse a number of adapters that the method or its options do not fit.

        Raises:
            PrefdeltaError: there are too few or too many, or an option says so.
        """
        if not count:
            raise PrefdeltaError("there is nothing to merge; give at least one adapter.")
        least, most = self.adapters
        if count < least or (most is not None and count > most):
            wanted = (
                f"exactly {least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            )
            raise PrefdeltaError(f"merge method {self.name} takes {wanted} adapters, not {count}.")
        options.check_count(count)


def checked_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """One finite weight for each of ``count`` adapters, all 1 if left out.

    Raises:
        PrefdeltaError: there are more or fewer, or one is not finite.
    """
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise PrefdeltaError(f"{len(weights)} weights were given for {count} adapters.")
    if not all(math.isfinite(weight) for weight in weights):
        raise PrefdeltaError(f"merge weights must be finite, not {list(weights)}.")
    return list(weights)


METHODS: Registry[Method] = Registry("merge method", "prefdelta.merge_methods")
"""All registered methods by name, in the order of registration."""


def declare(
    name: str,
    *,
    summary: str,
    paper: str,
    module: str,
    options: type[Options] = Options,
    adapters: tuple[int, int | None] = (1, None),
) -> Method:
    """Register a method by all but its function, which ``module`` adds by :func:`implements`."""
    return METHODS.register(name, Method(name, summary, paper, options, module, adapters))


def implements(name: str, *, takes_module: bool = False, full: Blocks | None = None) -> Callable[[Function], Method]:
    """Add the function of a declared method; the decorated name becomes the :class:`Method`."""

    def register(function: Function) -> Method:
        _IMPLEMENTED.add(name, Implementation(function, takes_module, full))
        return METHODS.find(name)

    return register


def method(
    name: str,
    *,
    summary: str,
    paper: str,
    options: type[Options] = Options,
    takes_module: bool = False,
    adapters: tuple[int, int | None] = (1, None),
    full: Blocks | None = None,
) -> Callable[[Function], Method]:
    """Register a merge function under ``name``, both at once; the decorated name becomes the :class:`Method`."""

    def register(function: Function) -> Method:
        declare(name, summary=summary, paper=paper, module=function.__module__, options=options, adapters=adapters)
        return implements(name, takes_module=takes_module, full=full)(function)

    return register


def get_method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        PrefdeltaError: there is none; the message names the nearest.
    """
    return METHODS.find(name)


def configured(name: str, options: Options | Mapping[str, Any] | None, count: int) -> tuple[Method, Options]:
    """A method and its options, checked for a number of adapters: what every merge begins with.

    Raises:
        PrefdeltaError: there is no such method or option, or it does not take as many adapters.
    """
    chosen = get_method(name)
    checked = chosen.parse(options)
    chosen.check_count(count, checked)
    return chosen, checked
