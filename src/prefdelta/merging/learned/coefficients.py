"""The coefficients of a learned merge as one vector φ, and each module's place in it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError

SHARED = "all modules"
"""The name of the one group of coefficients that all modules share."""


class Layout:
    """Where each module's coefficients lie in a vector φ.

    Args:
        shapes: module → shape of its coefficients.
        tied: whether all modules share one group of coefficients.

    Raises:
        PrefdeltaError: coefficients are to be shared, but modules have different numbers of them.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], *, tied: bool) -> None:
        if tied and len(set(shapes.values())) > 1:
            raise PrefdeltaError(
                f"modules with coefficients of shapes {sorted(set(shapes.values()))} cannot share them."
            )
        self._groups = {module: SHARED if tied else module for module in shapes}
        self.size = 0
        self._places: dict[str, tuple[slice, tuple[int, ...]]] = {}
        for module in sorted(shapes):
            group = self._groups[module]
            if group not in self._places:
                end = self.size + math.prod(shapes[module])
                self._places[group] = (slice(self.size, end), shapes[module])
                self.size = end

    def of(self, vector: Tensor, module: str) -> Tensor:
        """A module's coefficients, a view of ``vector (size,)``."""
        place, shape = self._places[self._groups[module]]
        return vector[place].view(shape)

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Every group's coefficients by name."""
        return {group: vector[place].view(shape) for group, (place, shape) in self._places.items()}

    def constant(self, value: float) -> Tensor:
        """The vector that is ``value`` everywhere, float32."""
        return torch.full((self.size,), value, dtype=torch.float32)

    def vector(self, named: Mapping[str, Tensor]) -> Tensor:
        """The vector φ of every group's coefficients, the inverse of :meth:`named`.

        Raises:
            PrefdeltaError: groups or shapes are not these.
        """
        shapes = {group: shape for group, (_, shape) in self._places.items()}
        given = {group: tuple(value.shape) for group, value in named.items()}
        if shapes != given:
            odd = sorted(group for group in {*shapes, *given} if shapes.get(group) != given.get(group))
            raise PrefdeltaError(
                f"the coefficients of {odd[0]} have shape {given.get(odd[0])}; this merge needs {shapes.get(odd[0])}."
            )
        return torch.cat([named[group].reshape(-1) for group in self._places])
