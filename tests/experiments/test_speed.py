"""What a machine reaches: measured for real on an embedded model, and turned into hours by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments import speed
from prefdelta.experiments.estimate import model_size
from prefdelta.experiments.gpus import Gpu
from prefdelta.experiments.hours import seconds
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.load import Passed, Text
from prefdelta.experiments.speed import Speed, measure, tokens_per_second, trained_model
from prefdelta.recipe import ModelRef, load_recipe
from whole_runs import command

RECIPES = Path(__file__).parents[2] / "recipes"
STUDENT = ModelRef(path="micro:student")
GPU = Gpu(memory=80, bandwidth=2, tflops=500, price=2)


def test_a_real_model_is_measured_and_its_hours_follow() -> None:
    found, size = measure(STUDENT, 128, seconds=0.3), model_size(STUDENT)
    assert size is not None
    assert found.writing is not None
    assert min(found.reading, found.training, found.writing) > 0
    rows = Passed(STUDENT, 1000, Text(asked=100), longest=None, passes=2, trained=True)
    by_hand = 4 * size.parameters * 1000 * 100 / found.training
    assert seconds(rows, found.machine(), 0.25) == pytest.approx(by_hand, rel=0.01)


def test_what_vllm_writes_is_not_measured() -> None:
    found = measure(STUDENT.model_copy(update={"engine": "vllm"}), 64, seconds=0.1)
    assert found.writing is None
    with pytest.raises(PrefdeltaError, match="name this machine's GPU with --gpu"):
        found.machine()


def test_a_batch_that_does_not_fit_ends_the_growth() -> None:
    tried: list[tuple[int, int]] = []

    def work(rows: int, length: int) -> None:
        tried.append((rows, length))
        if rows * length > 512:
            raise torch.OutOfMemoryError

    assert tokens_per_second(work, 256, 5.0) > 0
    assert tried[-1] == (4, 256)
    with pytest.raises(PrefdeltaError, match="does not fit in the memory"):
        tokens_per_second(lambda rows, length: work(rows, 1024), 256, 5.0)


def test_shares_are_of_the_peaks_and_never_above_them() -> None:
    found = Speed(reading=250e12, training=100e12, writing=1e12, start=5).shares(GPU, "h100")
    assert (found.reading, found.training, found.writing, found.price) == (0.5, 0.2, 0.5, 2)
    assert (found.start, found.step) == (5, 0)
    unknown = Speed(reading=250e12, training=100e12, writing=None, start=5).shares(GPU, "h100")
    assert (unknown.writing, unknown.step, unknown.start) == (GPU.writing, GPU.step, 5)
    with pytest.raises(PrefdeltaError, match="reading and writing reached more than the peak of h100"):
        Speed(reading=600e12, training=1e12, writing=3e12, start=5).shares(GPU, "h100")


def test_a_model_that_is_elsewhere_is_named() -> None:
    plan = plan_for(load_recipe(RECIPES / "pda-reasoning-qwen3-8b.yaml"), Path("nowhere"))
    with pytest.raises(PrefdeltaError, match="Qwen/Qwen3-8B is not on this machine"):
        trained_model(plan.units)
    with pytest.raises(PrefdeltaError, match="trains no language model"):
        trained_model([])


def test_the_command_measures_the_student(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        command("run", RECIPES / "micro.yaml", "--measure", *words)
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    assert "--measure tells what a run would cost and runs nothing; give it with --dry-run" in told()
    monkeypatch.setattr(speed, "measure", partial(measure, seconds=0.1))
    assert "on this machine at 0 an hour" in told("--dry-run")
    text = told("--dry-run", "--gpu", "h100")
    assert "measured, for a file of your own (--gpu FILE): training: " in text
    assert "on h100 at " in text
