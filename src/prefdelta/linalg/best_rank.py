"""Randomized truncated SVD: the best low-rank approximation of a matrix that is only seen in blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdelta.linalg.lowrank import LowRank

_SMALL_SIDE = 512  # up to this many columns or rows, an ordinary SVD is quick and exact
_OVERSAMPLING = 16
_PASSES = 30
_GAIN = 1e-4  # stop when a pass finds less new energy than this share of what is still missing


@dataclass(frozen=True)
class RowBlocks:
    """A matrix ``shape`` whose rows come in blocks, top to bottom: ``walk()`` yields (first row, block)."""

    shape: tuple[int, int]
    walk: Callable[[], Iterator[tuple[int, Tensor]]]

    def dense(self) -> Tensor:
        """The whole matrix."""
        return torch.cat([block for _, block in self.walk()])

    def norm(self) -> float:
        """The Frobenius norm, in one walk."""
        return math.sqrt(sum(float((block.double() ** 2).sum()) for _, block in self.walk()))

    def scaled(self, factor: float) -> RowBlocks:
        """The matrix times a factor."""
        return RowBlocks(self.shape, lambda: ((row, block * factor) for row, block in self.walk()))

    def kept_if_small(self, limit: int) -> RowBlocks:
        """The same matrix with its blocks computed once, if they take at most ``limit`` bytes as float32."""
        if 4 * self.shape[0] * self.shape[1] > limit:
            return self
        held: list[tuple[int, Tensor]] = list(self.walk())
        return RowBlocks(self.shape, lambda: iter(held))


def best_rank(matrix: RowBlocks, rank: int) -> tuple[LowRank, float]:
    """The rank-k matrix nearest to a float32 one, and the share of its ‖·‖²_F that it keeps (exact for that result).

    Block power iteration on MᵀM with oversampling, from a fixed start: every pass over the blocks computes P = M X
    and Mᵀ P, orthonormalises the latter as the next X, and reads the energy found off PᵀP. It ends when a pass adds
    less than 1e-4 of the energy still missing: on adapters' merges the error is then at most 1.2e-4 above the least
    possible; a tenth of that would take half as many passes again. Where singular values around the cut are nearly
    equal, the result may still differ from the best one by a few per cent of its norm. The factors are the leading
    singular triples of P Xᵀ. Matrices with a side of at most 512 get an ordinary SVD.

    Cost: about 4 d_out d_in (k + 16) a pass; memory for (d_out + d_in)(k + 16) numbers and one block.

    Source: Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4.
    """
    rows, columns = matrix.shape
    if min(rows, columns) <= max(_SMALL_SIDE, rank + _OVERSAMPLING):
        return _by_svd(matrix.dense(), rank)
    image, basis, total = _leading(matrix, rank)
    q, r = torch.linalg.qr(image)
    del image
    u, s, wt = torch.linalg.svd(r)
    root = s[:rank].sqrt()
    delta = LowRank((q @ u[:, :rank]).mul_(root), (basis @ wt[:rank].T).mul_(root).T)
    return delta, float((s[:rank] ** 2).sum()) / total if total else 1.0


def _leading(matrix: RowBlocks, rank: int) -> tuple[Tensor, Tensor, float]:
    """P = M X and an orthonormal X that holds the ``rank`` leading right singular vectors nearly, and ‖M‖²_F."""
    width = rank + _OVERSAMPLING
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(matrix.shape[1], width, generator=generator, dtype=torch.float64)).Q
    found, passes = -1.0, 0
    while True:
        image, back, total = _pass(matrix, basis)
        passes += 1
        energy = float(torch.linalg.eigvalsh(image.T @ image).flip(0)[:rank].sum())
        if passes == _PASSES or energy - found <= _GAIN * max(total - energy, 0.0):
            return image, basis, total
        found = energy
        del image, basis  # each may take a hundred megabytes
        basis = torch.linalg.qr(back.double()).Q
        del back


def _pass(matrix: RowBlocks, basis: Tensor) -> tuple[Tensor, Tensor, float]:
    """M X, Mᵀ M X and ‖M‖²_F in one walk.

    The second only shows the way to the next basis, and is summed up in float32.
    """
    image = torch.empty(matrix.shape[0], basis.shape[1], dtype=torch.float64)
    narrow = basis.float()
    back = torch.zeros_like(narrow)
    total = 0.0
    for row, block in matrix.walk():
        part = block @ narrow
        image[row : row + len(block)] = part
        back.addmm_(block.T, part)
        total += float((block.double() ** 2).sum())
    return image, back, total


def _by_svd(dense: Tensor, rank: int) -> tuple[LowRank, float]:
    u, s, vt = torch.linalg.svd(dense.double(), full_matrices=False)
    energy = float((s**2).sum())
    root = s[:rank].sqrt()
    kept = float((s[:rank] ** 2).sum()) / energy if energy else 1.0
    return LowRank(u[:, :rank] * root, root[:, None] * vt[:rank]), kept
