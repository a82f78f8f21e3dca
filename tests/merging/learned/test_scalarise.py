"""Several objectives made one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.learned.scalarise import check_preference, gradient_weights, scalarise

HOWS = ("linear", "smooth-tchebycheff", "smooth-tchebycheff-absolute")
numbers = st.floats(-3, 3)


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_formulas():
    f, z, rho = vector(1.0, 0.2), vector(0.5, 0.7), vector(0.25, 0.75)
    assert float(scalarise(f, z, rho, how="linear")) == pytest.approx(0.25 * 0.5 - 0.75 * 0.5)
    plain = 2.0 * math.log(math.exp(0.125 / 2) + math.exp(-0.375 / 2))
    assert float(scalarise(f, z, rho, how="smooth-tchebycheff", alpha=2.0)) == pytest.approx(plain)
    absolute = 2.0 * math.log(math.exp(0.125 / 2) + math.exp(0.375 / 2))
    assert float(scalarise(f, z, rho, how="smooth-tchebycheff-absolute", alpha=2.0)) == pytest.approx(absolute)


@given(st.lists(st.tuples(numbers, numbers, st.floats(0.05, 1)), min_size=1, max_size=5))
def test_weights_are_the_gradient(rows):
    f, z, rho = (vector(*column) for column in zip(*rows, strict=True))
    for how in HOWS:
        total, weights = gradient_weights(f, z, rho, how=how, alpha=0.7)
        assert total == pytest.approx(float(scalarise(f, z, rho, how=how, alpha=0.7)))
        if how == "linear":
            torch.testing.assert_close(weights, rho)
        if how == "smooth-tchebycheff":
            torch.testing.assert_close(weights, torch.softmax(rho * (f - z) / 0.7, dim=0) * rho)
        if how == "smooth-tchebycheff-absolute":
            signs = torch.sign(f - z)
            torch.testing.assert_close(weights, torch.softmax(rho * (f - z).abs() / 0.7, dim=0) * rho * signs)


def test_the_absolute_value_matters_below_the_anchor_only():
    rho = vector(0.5, 0.5)
    above = (vector(1.0, 2.0), vector(0.5, 1.9))
    assert torch.equal(
        scalarise(*above, rho, how="smooth-tchebycheff"), scalarise(*above, rho, how="smooth-tchebycheff-absolute")
    )
    below = (vector(0.1, 2.0), vector(0.5, 1.9))
    _, plain = gradient_weights(*below, rho, how="smooth-tchebycheff")
    _, absolute = gradient_weights(*below, rho, how="smooth-tchebycheff-absolute")
    assert plain[0] > 0 > absolute[0]  # pushed further down, pulled back up


@pytest.mark.parametrize("how", HOWS[1:])
@pytest.mark.parametrize("alpha", [1e-300, 1e-8, 1e-3])
def test_small_temperatures_stay_finite_and_give_the_maximum(how, alpha):
    f, z, rho = vector(2.0, 900.0, 1.0), vector(1.0, 1.0, 0.0), vector(0.2, 0.3, 0.5)
    total, weights = gradient_weights(f, z, rho, how=how, alpha=alpha)
    assert total == pytest.approx(0.3 * 899)
    torch.testing.assert_close(weights, vector(0.0, 0.3, 0.0))


def test_large_temperatures_are_linear():
    f, z, rho = vector(0.3, 1.2, 0.0), vector(0.0, 0.0, 0.0), vector(0.2, 0.3, 0.5)
    _, weights = gradient_weights(f, z, rho, how="smooth-tchebycheff", alpha=1e6)
    torch.testing.assert_close(weights, rho / 3, rtol=1e-5, atol=0)


def test_preferences():
    assert check_preference(None, 4).tolist() == [0.25] * 4
    assert check_preference((1, 3), 2).tolist() == [0.25, 0.75]
    assert check_preference((0, 1), 2).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ((0.5, 0.5), "2 weights for 3 tasks"),
        ((0.2, 0.2, 0.2, 0.4), "4 weights for 3 tasks"),
        ((), "0 weights for 3 tasks"),
        ((0.5, 0.6, -0.1), "finite weights"),
        ((0.0, 0.0, 0.0), "not all zero"),
        ((math.nan, 1.0, 1.0), "finite weights"),
    ],
)
def test_bad_preferences(preference, message):
    with pytest.raises(PrefdeltaError, match=message):
        check_preference(preference, 3)
