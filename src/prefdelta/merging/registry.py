"""The table of merge methods.

A method is a pure function of updates, written ``f(deltas, *, weights, options) -> LowRank`` and registered with
:func:`method`. It depends on the ΔW's only, not on how they are factored; an adapter that lacks a module takes part
with a zero update of rank 0. Weights come as the user gave them (all 1 by default): each method says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prefdelta.errors import PrefdeltaError, did_you_mean
from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.stack import Stack


class Options(BaseModel):
    """Base of all options models: frozen, and an unknown option is an error. By itself: no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Merged:
    """A method's result together with numbers worth reporting about how it came about, by name."""

    delta: LowRank
    notes: Mapping[str, float] = field(default_factory=dict)


Function = Callable[..., LowRank | Merged]
Blocks = Callable[..., RowBlocks]


@dataclass(frozen=True)
class Method:
    """A registered merge method; calling it merges updates in memory.

    Attributes:
        name: what recipes and the command line call it.
        summary: one line for lists.
        paper: where it comes from.
        options: the pydantic model of its options.
        function: the implementation.
        takes_module: whether the function also takes the module's name, ``module``: to seed its random numbers, or
            to find that module's data.
        full: for a method whose exact result has full rank, ``full(deltas, *, weights, options, module)``: that
            result in blocks of rows, of which ``function`` gives the best approximation of limited rank.
    """

    name: str
    summary: str
    paper: str
    options: type[Options]
    function: Function
    takes_module: bool = False
    full: Blocks | None = None

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
            PrefdeltaError: no deltas, a wrong number of weights, differing shapes, or a bad option.
        """
        if not deltas:
            raise PrefdeltaError("there is nothing to merge; give at least one adapter.")
        shapes = sorted({delta.shape for delta in deltas})
        if len(shapes) > 1:
            raise PrefdeltaError(f"updates of shapes {shapes[0]} and {shapes[1]} cannot be merged.")
        if weights is not None and len(weights) != len(deltas):
            raise PrefdeltaError(f"{len(weights)} weights were given for {len(deltas)} adapters.")
        result = self.function(
            Stack.of(deltas),
            weights=[1.0] * len(deltas) if weights is None else list(weights),
            options=self.parse(options),
            **({"module": module} if self.takes_module else {}),
        )
        return result if isinstance(result, Merged) else Merged(result)

    def parse(self, options: Options | Mapping[str, Any] | None) -> Options:
        """Check options given as a mapping.

        Raises:
            PrefdeltaError: an option is unknown or has a bad value.
        """
        if isinstance(options, Options):
            options = options.model_dump()
        try:
            return self.options.model_validate(dict(options or {}))
        except ValidationError as error:
            raise PrefdeltaError(f"merge method {self.name}: {self._explain(error)}") from error

    def _explain(self, error: ValidationError) -> str:
        problem = error.errors()[0]
        key = str(problem["loc"][0]) if problem["loc"] else ""  # deeper parts name branches of a union, not options
        if problem["type"] != "extra_forbidden":
            return f"option {key}: {problem['msg']}."
        known = self.options.model_fields
        hint = did_you_mean(key, known) if known else "it has no options."
        return f"unknown option {key!r}; {hint}"


METHODS: dict[str, Method] = {}
"""All registered methods by name, in the order of registration."""


def method(
    name: str,
    *,
    summary: str,
    paper: str,
    options: type[Options] = Options,
    takes_module: bool = False,
    full: Blocks | None = None,
) -> Callable[[Function], Method]:
    """Register a merge function under ``name``; the decorated name becomes the :class:`Method`."""

    def register(function: Function) -> Method:
        if name in METHODS:
            raise ValueError(f"merge method {name!r} is registered twice")
        METHODS[name] = Method(name, summary, paper, options, function, takes_module, full)
        return METHODS[name]

    return register


def get_method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        PrefdeltaError: there is none; the message names the nearest.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise PrefdeltaError(f"there is no merge method {name!r}; {did_you_mean(name, METHODS)}") from None
