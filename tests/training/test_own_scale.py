"""The own scale of a delta: the minimum it claims to be, and what stands beside a trained adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from prefdelta.adapters.trained import TRAINING, OwnScale, read_own_scale
from prefdelta.training.own_scale import fitted_scale


def loss(margins: torch.Tensor, scale: float) -> float:
    return float(torch.nn.functional.softplus(-scale * margins).mean())


@pytest.mark.parametrize("seed", range(5))
def test_it_has_the_least_loss_of_all_scales(seed: int) -> None:
    margins = torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.7 + 0.3
    found = fitted_scale(margins)
    assert all(loss(margins, found) <= loss(margins, other) + 1e-12 for other in torch.linspace(0, 20, 400).tolist())


def test_half_as_large_margins_have_twice_the_scale() -> None:
    margins = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    assert fitted_scale(margins / 2) == pytest.approx(2 * fitted_scale(margins), rel=1e-9)


def test_margins_that_prefer_the_wrong_answers_have_scale_0_and_perfect_ones_the_largest() -> None:
    assert fitted_scale(torch.tensor([-1.0, -2.0, 0.5])) == 0
    assert fitted_scale(torch.tensor([1.0, 2.0])) == 100


def test_what_is_stored_is_read_and_what_is_not_ours_is_none(tmp_path: Path) -> None:
    assert read_own_scale(tmp_path) is None
    for text in ("{", "[]", '{"own_scale": null}', '{"own_scale": {"scale": "x", "margin": 1, "pairs": 2}}'):
        (tmp_path / TRAINING).write_text(text)
        assert read_own_scale(tmp_path) is None
    for scale in (float("nan"), float("inf"), -1.0):
        (tmp_path / TRAINING).write_text(json.dumps({"own_scale": {"scale": scale, "margin": 1.0, "pairs": 2}}))
        assert read_own_scale(tmp_path) is None
    (tmp_path / TRAINING).write_text(json.dumps({"own_scale": {"scale": 2.5, "margin": 0.5, "pairs": 7}}))
    assert read_own_scale(tmp_path) == OwnScale(2.5, 0.5, 7)
