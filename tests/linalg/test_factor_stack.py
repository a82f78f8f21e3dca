"""Products a few rows at a time are the products, whatever type the blocks are stored in and however they lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import prefdelta.linalg.factor_stack as factor_stack
from prefdelta.linalg.factor_stack import FactorStack

CLOSE = {"rtol": 1e-12, "atol": 1e-11}
FACTORS = (1.0, -0.3, 2.5)


def blocks(dtypes: tuple[torch.dtype, ...], rows: int = 90) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = (5, 70, 3)
    return [
        torch.randn(rows, width, generator=generator).to(dtype) for width, dtype in zip(widths, dtypes, strict=True)
    ]


@pytest.fixture(params=[50, 1 << 17], ids=["many panels", "one panel"])
def panel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_stack, "_PANEL", request.param * 7)


@pytest.mark.usefixtures("panel")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "dtypes",
    [(torch.bfloat16,) * 3, (torch.bfloat16, torch.float16, torch.float32), (torch.float64,) * 3],
    ids=["bf16", "mixed", "f64"],
)
def test_products_are_those_of_the_dense_matrix(dtypes: tuple[torch.dtype, ...], transposed: bool) -> None:
    given = blocks(dtypes)
    matrix = FactorStack(
        [block.T.contiguous() if transposed else block for block in given], FACTORS, transposed=transposed
    )
    dense = torch.cat([block.double() * factor for block, factor in zip(given, FACTORS, strict=True)], dim=1)
    assert matrix.shape == dense.shape
    assert torch.equal(matrix.dense, dense)
    torch.testing.assert_close(matrix.gram, dense.T @ dense, **CLOSE)
    assert torch.equal(matrix.gram, matrix.gram.T)
    generator = torch.Generator().manual_seed(1)
    # Factors that are all of 16 bits are multiplied in float32: sums of about a hundred terms of size 1 to 3.
    near = {"rtol": 0.0, "atol": 1e-4} if all(dtype.itemsize == 2 for dtype in dtypes) else CLOSE
    columns = torch.randn(dense.shape[1], 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(matrix.times(columns), dense @ columns, **near)
    torch.testing.assert_close(matrix.times(columns[:, 0]), dense * columns[:, 0], **near)
    other = torch.randn(dense.shape[0], 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(matrix.against(other), dense.T @ other, **near)
    torch.testing.assert_close(matrix.only(1).dense, given[1].double() * FACTORS[1], **CLOSE)


@pytest.mark.usefixtures("panel")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_products_with_one_block_are_those_of_the_gram_matrix(transposed: bool, known: bool) -> None:
    given = blocks((torch.bfloat16, torch.float32, torch.float64))
    matrix = FactorStack([block.T if transposed else block for block in given], FACTORS, transposed=transposed)
    gram = matrix.dense.T @ matrix.dense
    if known:
        torch.testing.assert_close(matrix.gram, gram, **CLOSE)
    for index in (1, 0, 2):
        torch.testing.assert_close(matrix.towards(index), gram[:, matrix.spans[index]], **CLOSE)
    for span, own in zip(matrix.spans, matrix.own, strict=True):
        torch.testing.assert_close(own, gram[span, span], **CLOSE)
        assert torch.equal(own, own.T)
    assert matrix.gram_is_known is known


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_rounded_once(transposed: bool) -> None:
    given = blocks((torch.bfloat16,) * 3)
    matrix = FactorStack([block.T if transposed else block for block in given], FACTORS, transposed=transposed)
    columns = torch.randn(78, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    working = matrix.times(columns, matrix.working)
    assert torch.equal(matrix.times(columns, torch.bfloat16, then=0.3), (working * 0.3).to(torch.bfloat16))


@pytest.mark.parametrize("nearness", [1.0, 1e-6], ids=["apart", "nearly dependent"])
def test_the_qr_factors_are_orthonormal_and_coefficients_lead_to_them(nearness: float) -> None:
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randn(60, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    matrix = FactorStack([first, first + nearness * second], (1.0, 1.0), transposed=False)
    eye = torch.eye(8, dtype=torch.float64)
    q = matrix.qr.turn(eye)
    torch.testing.assert_close(q.T @ q, eye, rtol=0, atol=1e-10)
    torch.testing.assert_close(q @ matrix.qr.R, matrix.dense, rtol=0, atol=1e-10)
    found = matrix.coefficients(eye)
    assert (found is None) == (nearness < 1)
    if found is not None:
        torch.testing.assert_close(matrix.dense @ found, q, rtol=0, atol=1e-10)


def test_tiny_factors_of_16_bits_do_not_overflow_on_the_way() -> None:
    block = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)).mul(1e-30).to(torch.bfloat16)
    matrix = FactorStack([block], [1.0], transposed=False)
    columns = torch.full((4, 2), 1e39, dtype=torch.float64)
    torch.testing.assert_close(matrix.times(columns), block.double() @ columns)
