"""Deltas that are trained together: each comes out as alone, also after a kill, and what cannot be is refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from folders import contents
from prefdelta.adapters.applied import Branch, row_branches
from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import ModelRef, Training
from prefdelta.training import Delta, train_delta, train_together
from training_runs import make_pairs, make_triples, settings
from whole_runs import forked


def deltas(make: Callable[..., Any] = make_pairs) -> list[Delta]:
    """Three sets of rows, of 3, 2 and 5 steps in batches of 3."""
    sizes = {"ash": 7, "elm": 4, "oak": 13}
    return [
        Delta(name, make(count, seed=number), seed=3 + number, init_seed=5 + number)
        for number, (name, count) in enumerate(sizes.items())
    ]


def log(folder: Path) -> list[dict[str, float]]:
    return [told(json.loads(line)) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def told(line: dict[str, float]) -> dict[str, float]:
    """A step's line without the accuracy of the first step, when all rewards are 0 but for rounding."""
    return {name: value for name, value in line.items() if line["step"] > 1 or "accuracies" not in name}


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"objective": "dpo", "weight_decay": 0.1, "max_grad_norm": 0.5, "warmup_ratio": 0.3}, make_pairs),
        ({"objective": "orpo", "nll_scope": "full", "gradient_checkpointing": True}, make_pairs),
        ({"objective": "wrpo", "alpha": 0.5}, make_triples),
    ],
    ids=["dpo", "orpo", "wrpo"],
)
def test_each_comes_out_as_alone(
    student: ModelRef, tmp_path: Path, changes: dict[str, Any], rows: Callable[..., Any]
) -> None:
    """Weights, log and report, also of those that end before the others."""
    training: Training = settings(**changes, batch_size=3, micro_batch_size=4)
    members = deltas(rows)
    cache = tmp_path / "cache"
    reports = train_together(student, members, training, folder=tmp_path / "together", cache=cache)
    if training.objective.name != "orpo":
        assert len(list(cache.iterdir())) == 1  # one pass of the reference for all
    for delta in members:
        here, alone = tmp_path / "together" / delta.name, tmp_path / delta.name
        report = train_delta(
            student, delta.examples, training, seed=delta.seed, init_seed=delta.init_seed, folder=alone, cache=cache
        )
        assert {path.name for path in here.iterdir()} == {path.name for path in alone.iterdir()}
        assert (here / "adapter_config.json").read_bytes() == (alone / "adapter_config.json").read_bytes()
        ours, theirs = (load_file(place / "adapter_model.safetensors") for place in (here, alone))
        assert list(ours) == list(theirs)
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=2e-6)  # the learning rate is 1e-3
        assert len(log(here)) == len(log(alone)) == report.steps
        for line, other in zip(log(here), log(alone), strict=True):
            assert line == pytest.approx(other, rel=1e-3, abs=1e-4)
        written, known = (json.loads((place / "training.json").read_text()) for place in (here, alone))
        for key in ("first", "last"):
            assert told(written.pop(key)) == pytest.approx(told(known.pop(key)), rel=1e-3, abs=1e-4)
        assert written.pop("moved") == pytest.approx(known.pop("moved"), rel=1e-3)
        assert written == known
        assert reports[delta.name].warning == report.warning


def test_a_killed_training_ends_with_the_same_bytes(student: ModelRef, tmp_path: Path) -> None:
    """Killed after step 3 of 5, it continues from the checkpoint of step 2, with which one delta has ended."""
    members, training = deltas(), settings(batch_size=3)
    steps: list[int] = []

    def kill(done: int, total: int) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert forked(lambda: train_together(student, members, training, folder=killed, progress=kill)) == -signal.SIGKILL
    assert [path.parent.name for path in killed.rglob("complete")] == ["checkpoint-2"]
    train_together(student, members, training, folder=killed, progress=lambda done, total: steps.append(done))
    train_together(student, members, training, folder=whole)
    assert steps == [3, 4, 5]
    assert contents(killed) == contents(whole)
    lines = [json.loads(line) for line in (whole / "steps.jsonl").read_text().splitlines()]
    assert [sorted(line) for line in lines] == [*[["ash", "elm", "oak"]] * 2, ["ash", "oak"], *[["oak"]] * 2]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("q_proj", "lm_head"), "training.lora.targets names 'lm_head', the output head, which cannot be trained"),
        (("embed_tokens",), "training.lora.targets names 'model.embed_tokens', and only linear layers can be"),
    ],
)
def test_modules_that_do_not_see_rows_are_refused(
    student: ModelRef, tmp_path: Path, targets: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PrefdeltaError, match=message):
        train_together(student, deltas(), settings(lora={"targets": targets}), folder=tmp_path)


def test_an_error_says_of_which_delta_it_is(student: ModelRef, tmp_path: Path) -> None:
    members = deltas()
    with pytest.raises(PrefdeltaError, match=r"^elm: the training has 1 optimiser step \(4 rows"):
        train_together(student, members, settings(warmup_ratio=0.1), folder=tmp_path)
    with pytest.raises(PrefdeltaError, match=r"^(ash|oak): the loss is nan at step 2; lower training\.learning_rate"):
        train_together(student, members, settings(learning_rate=1e30), folder=tmp_path)


def test_a_module_that_is_given_flattened_tokens_is_named() -> None:
    """As an expert of a mixture is: nobody knows whose tokens they are."""
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(3, 2))
    branch = Branch(torch.ones(2, 1), torch.eye(1), torch.ones(1, 3))
    with (
        row_branches(model, {"1": [branch, branch]}, lambda: [1, 3]),
        pytest.raises(PrefdeltaError, match="the module 1 is given something else than the rows of a batch"),
    ):
        model(torch.zeros(4, 5, 3))
