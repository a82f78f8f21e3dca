"""The training loop resumes to the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe.suite import Optimisation
from prefdelta.suite.loop import optimise


class Killed(Exception):
    pass


def trained(folder: Path, *, kill_after: int | None = None) -> tuple[Tensor, list[float]]:
    weight = nn.Parameter(torch.zeros(3))

    def loss_at(step: int) -> Tensor:
        return ((weight - torch.randn(3)) ** 2).sum()

    def progress(done: int, total: int) -> None:
        if done == kill_after:
            raise Killed

    settings = Optimisation(steps=9, learning_rate=0.1, checkpoint_steps=2)
    losses = optimise([weight], loss_at, settings, folder=folder, seed=3, progress=progress)
    return weight.detach(), losses


@pytest.mark.parametrize("kill_after", [1, 4, 5, 8])
def test_a_killed_training_ends_where_an_undisturbed_one_does(tmp_path: Path, kill_after: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    weight, losses = trained(tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tmp_path / "killed", kill_after=kill_after)
    again, resumed = trained(tmp_path / "killed")
    assert torch.equal(weight, again)
    assert losses == resumed
    assert not list((tmp_path / "killed").iterdir())


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.randn(2)
    torch.manual_seed(5)
    trained(tmp_path)
    assert torch.equal(torch.randn(2), expected)


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(PrefdeltaError, match="not finite at step 1"):
        optimise([weight], lambda step: weight.sum() / 0, Optimisation(steps=2), folder=tmp_path, seed=0)
