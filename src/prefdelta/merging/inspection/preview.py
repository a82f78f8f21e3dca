"""What each merge method would do to norm and direction, at its defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import METHODS
from prefdelta.merging.inspection.results import MethodPreview
from prefdelta.merging.methods.average import average
from prefdelta.merging.report import ratio

PREVIEWED = ("average", "projection", "gam", "ties", "knots-ties", "core-ties", "tsv-m", "iso-c")
"""The methods that are previewed by default: one of each family, quick on a small model."""


class Preview:
    """One method, module by module.

    A method that refuses one module, because it merges two adapters only or needs data, is left out from there on.
    A method whose result has full rank is measured before that is cut to the rank it is stored at.
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
        plain = average(deltas)
        try:
            norm, product = self._merge(deltas, module, plain)
        except PrefdeltaError as error:
            self._refusal = str(error)
            return
        size = plain.norm()
        self._modules.append((ratio(norm, size), ratio(product, norm * size)))
        self._merged += norm**2
        self._average += size**2
        self._product += product

    def _merge(self, deltas: Sequence[LowRank], module: str, plain: LowRank) -> tuple[float, float]:
        """The norm of the merge and its inner product with the plain average."""
        method = METHODS[self.method]
        full = method.implementation.full
        if full is None:
            merged = method.run(deltas, module=module).delta
            return merged.norm(), merged.inner(plain)
        weights = [1.0] * len(deltas)
        blocks = full(deltas, weights=weights, options=method.parse(None), module=module)
        factors = plain.to(torch.float32)
        square = product = 0.0
        for row, block in blocks.walk():
            square += float((block.double() ** 2).sum())
            product += float((block * (factors.B[row : row + len(block)] @ factors.A)).sum(dtype=torch.float64))
        return math.sqrt(square), product

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
