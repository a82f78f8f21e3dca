"""Cholesky-QR where it is safe, Householder where it is not: the same decomposition either way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prefdelta.linalg.thinqr import WORST_CONDITION, cholesky_triangle, thin_qr

CLOSE = {"rtol": 0.0, "atol": 1e-10}


def with_condition(condition: float, *, rows: int = 60, columns: int = 7, seed: int = 0) -> Tensor:
    """A matrix whose columns have unit length up to a factor, and singular values from 1 down to 1/condition."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, columns, generator=generator, dtype=torch.float64)).Q
    return left * torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), columns, dtype=torch.float64) @ right


def basis(matrix: Tensor) -> tuple[Tensor, Tensor]:
    qr = thin_qr(matrix)
    return qr.turn(torch.eye(len(qr.R), dtype=torch.float64)), qr.R


@pytest.mark.parametrize("condition", [1.0, 10.0, 100.0, 1e3, 1e6, 1e9, 1e15])
def test_factors_multiply_to_the_matrix_and_q_is_orthonormal_at_every_condition(condition: float) -> None:
    matrix = with_condition(condition)
    q, r = basis(matrix)
    torch.testing.assert_close(q @ r, matrix, **CLOSE)
    torch.testing.assert_close(q.T @ q, torch.eye(7, dtype=torch.float64), **CLOSE)
    assert torch.equal(r, r.triu())


def test_the_gram_matrix_is_used_where_it_is_safe_only() -> None:
    safe, unsafe = with_condition(WORST_CONDITION / 20), with_condition(WORST_CONDITION * 20)
    assert cholesky_triangle(safe.T @ safe) is not None
    assert cholesky_triangle(unsafe.T @ unsafe) is None


def test_the_lengths_of_the_columns_do_not_count_as_bad_condition() -> None:
    matrix = with_condition(5.0) * torch.logspace(0, -12, 7, dtype=torch.float64)
    assert cholesky_triangle(matrix.T @ matrix) is not None
    q, _ = basis(matrix)
    torch.testing.assert_close(q.T @ q, torch.eye(7, dtype=torch.float64), **CLOSE)


@pytest.mark.parametrize("matrix", [torch.zeros(9, 3), torch.zeros(9, 0), torch.ones(9, 2), torch.randn(3, 9)])
def test_zero_equal_missing_and_too_many_columns(matrix: Tensor) -> None:
    q, r = basis(matrix.double())
    torch.testing.assert_close(q @ r, matrix.double(), **CLOSE)
