"""What each merge method would do to norm and direction, at its defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prefdelta.errors import PrefdeltaError
from prefdelta.inspection.results import MethodPreview
from prefdelta.lowrank import LowRank
from prefdelta.merging import METHODS
from prefdelta.merging.average import average
from prefdelta.merging.report import ratio
from prefdelta.merging.rules import RULES

_DENSE_SPACES = ("", "knots-")
"""Prefixes of the spaces whose coordinates grow with d_out x d_in or R x N d_in."""

_DENSE = {prefix + rule.name for prefix in _DENSE_SPACES for rule in RULES} | {"pico-ties"}


def cheap_methods() -> tuple[str, ...]:
    """The registered methods that work on small cores: all but those on dense coordinates."""
    return tuple(name for name in METHODS if name not in _DENSE)


class Preview:
    """One method, module by module.

    A method that refuses one module, because it merges two adapters only or needs data, is left out from there on.
    """

    def __init__(self, method: str) -> None:
        self.method = method
        self._modules: list[tuple[float | None, float | None]] = []
        self._merged = self._average = self._product = 0.0
        self._refusal: str | None = None

    def add(self, deltas: Sequence[LowRank], module: str) -> None:
        """Merge one module and compare it with the plain average."""
        if self._refusal is not None:
            return
        try:
            merged = METHODS[self.method].run(deltas, module=module).delta
        except PrefdeltaError as error:
            self._refusal = str(error)
            return
        plain = average(deltas)
        norm, size, product = merged.norm(), plain.norm(), merged.inner(plain)
        self._modules.append((ratio(norm, size), ratio(product, norm * size)))
        self._merged += norm**2
        self._average += size**2
        self._product += product

    @property
    def result(self) -> MethodPreview:
        """The preview over all modules so far."""
        if self._refusal is not None:
            return MethodPreview(method=self.method, norm_ratio=None, cosine=None, modules=(), refusal=self._refusal)
        norm, size = math.sqrt(self._merged), math.sqrt(self._average)
        return MethodPreview(
            method=self.method,
            norm_ratio=ratio(norm, size),
            cosine=ratio(self._product, norm * size),
            modules=tuple(self._modules),
        )
