"""The small training loop: it resumes to the same numbers, and its checkpoints are whole or of no use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.suites.seeded_training import train
from prefdelta.recipe.suite import Optimisation
from prefdelta.training.checkpoints import Checkpoints
from prefdelta.training.loop import AdamWOptions, Kept, gradients_of, optimise, warmup_cosine


class Killed(Exception):
    pass


SETTINGS = Optimisation(steps=9, learning_rate=0.1, checkpoint_steps=2)


def trained(folder: Path, *, kill_after: int | None = None, settings: Optimisation = SETTINGS) -> Tensor:
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]

    def loss_at(step: int) -> Tensor:
        return ((weights[0] - torch.randn(3)) ** 2).sum() + ((weights[1] - torch.randn(2, 2)) ** 2).sum()

    def progress(done: int, total: int) -> None:
        if done == kill_after:
            raise Killed

    train(weights, loss_at, settings, folder=folder, seed=3, progress=progress)
    return torch.cat([weight.detach().flatten() for weight in weights])


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kill_after", [1, 4, 5, 8])
def test_a_killed_training_ends_where_an_undisturbed_one_does(tmp_path: Path, kill_after: int) -> None:
    whole = trained(tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tmp_path / "killed", kill_after=kill_after)
    assert torch.equal(trained(tmp_path / "killed"), whole)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 9
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["losses.jsonl"]


def test_a_checkpoint_that_is_half_damaged_or_of_another_training_is_not_continued(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")

    def flip(at: Path) -> None:
        state = bytearray((at / "state.safetensors").read_bytes())
        state[-2] ^= 1
        (at / "state.safetensors").write_bytes(state)

    ways: dict[str, Callable[[Path], None]] = {
        "half": lambda at: (at / "complete").unlink(),
        "other": lambda at: None,
        "flipped": flip,
        "cut": lambda at: (at / "log.jsonl").write_text(""),
    }
    for name, spoil in ways.items():
        folder = tmp_path / name
        with pytest.raises(Killed):
            trained(folder, kill_after=5, settings=SETTINGS.model_copy(update={"steps": 11 if name == "other" else 9}))
        spoil(folder / "checkpoints" / "checkpoint-4")
        assert torch.equal(trained(folder), whole)
        assert losses(folder) == losses(tmp_path / "whole")


def test_checkpoints_of_another_trainer_are_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "checkpoints" / "checkpoint-2" / "model.bin"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("days of work")
    with pytest.raises(PrefdeltaError, match="did not write"):
        trained(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]


def test_the_loop_is_adamw_with_its_schedule_and_clipping(tmp_path: Path) -> None:
    """Step by step the same as the written-out loop of ``torch``."""
    ours, theirs = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    target = torch.tensor([3.0, -1.0, 0.5, 9.0])
    options = AdamWOptions(7, 0.3, 0.1, schedule=lambda step: warmup_cosine(step, 7, 3), max_grad_norm=0.5)
    kept = Kept(Checkpoints(tmp_path / "checkpoints", "key"), 100, tmp_path / "log.jsonl")
    optimise([ours], gradients_of(lambda step: ((ours - target) ** 2).sum()), options, kept=kept)
    adamw = torch.optim.AdamW([theirs], lr=0.3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: warmup_cosine(step, 7, 3))
    for _ in range(7):
        ((theirs - target) ** 2).sum().backward()
        nn.utils.clip_grad_norm_([theirs], 0.5)
        adamw.step()
        schedule.step()
        adamw.zero_grad()
    assert torch.equal(ours, theirs)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 7


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.randn(2)
    torch.manual_seed(5)
    trained(tmp_path)
    assert torch.equal(torch.randn(2), expected)


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(PrefdeltaError, match="not finite at step 1"):
        train([weight], lambda step: weight.sum() / 0, Optimisation(steps=2), folder=tmp_path, seed=0)
