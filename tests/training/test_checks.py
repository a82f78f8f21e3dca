"""What tells a reference that belongs to the base from another one."""

from __future__ import annotations

import math

import pytest
import torch

from prefdelta.core.errors import PrefdeltaError
from prefdelta.training.checks import check_loss, check_start
from prefdelta.training.data import Response, Row
from prefdelta.training.objectives import Loss

LENGTHS = (150, 62, 8000, 5000)  # of chosen and rejected in two rows


def _rows() -> list[Row]:
    def response(length: int) -> Response:
        return Response((1,) * length, (1,) * length)

    return [
        Row((1,), (response(LENGTHS[0]), response(LENGTHS[1]))),
        Row((1,), (response(LENGTHS[2]), response(LENGTHS[3]))),
    ]


def _before(per_token: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens ``(responses x rows, length)``, first responses first."""
    order = (0, 2, 1, 3)
    dense = torch.zeros(4, max(LENGTHS))
    for place, index in enumerate(order):
        dense[place, : LENGTHS[index]] = per_token[: LENGTHS[index]]
    return dense


def test_rounding_of_long_responses_is_allowed_and_another_reference_is_not() -> None:
    """Errors of 0.07 nats a token, as measured in bf16, come to 6 nats in 8,000 tokens; a wrong reference to more."""
    generator = torch.Generator().manual_seed(0)
    exact = -2 * torch.rand(max(LENGTHS), generator=generator)
    noise = 0.07 * torch.randn(max(LENGTHS), generator=generator)
    reference = _before(exact).sum(dim=1).view(2, 2)
    check_start(_before(exact + noise), reference, _rows(), 0.25)
    with pytest.raises(PrefdeltaError, match="of a response of 8000 tokens differ by 1"):
        check_start(_before(exact + 0.02), reference, _rows(), 0.25)
    with pytest.raises(PrefdeltaError, match="differ by nan"):
        check_start(_before(exact * math.nan), reference, _rows(), 0.25)


def test_the_first_loss_is_judged_in_full_precision_only() -> None:
    loss = Loss.named("dpo", {})
    check_loss(0.671875, loss, 1, None)
    check_loss(0.69315, loss, 1, 1e-4)
    with pytest.raises(PrefdeltaError, match=r"the first dpo loss is 0\.671875, not 0\.693147"):
        check_loss(0.671875, loss, 1, 1e-4)
    with pytest.raises(PrefdeltaError, match="the loss is nan"):
        check_loss(math.nan, loss, 1, None)
