"""A training depends on its arguments only, and ends with the same bytes after a kill or on a full disk."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from folders import contents
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import write_rows
from prefdelta.recipe import ModelRef, Training
from prefdelta.training.trainer import DeltaTrainer
from training_runs import Stopped, make_pairs, metrics, settings, stop, train_here
from whole_runs import forked

SOURCE = Path(__file__).resolve().parents[2] / "src"
DRIVER = Path(__file__).with_name("training_driver.py")


def _drive(student: ModelRef, pairs: Path, training: Training, folder: Path, *, hash_seed: str) -> int:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SOURCE), str(DRIVER.parents[1])]),
        "PYTHONHASHSEED": hash_seed,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(DRIVER), student.path, str(pairs), training.model_dump_json(), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_bytes_depend_on_the_arguments_only(student: ModelRef, tmp_path: Path) -> None:
    """Not on the process, its hash seed, nor the state of the global generators, which are left as they were."""
    training = settings(lora={"dropout": 0.2})
    pairs = make_pairs(10)
    write_rows(tmp_path / "pairs.jsonl", pairs)
    assert _drive(student, tmp_path / "pairs.jsonl", training, tmp_path / "there", hash_seed="1") == 0
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    train_here(student, pairs, training, tmp_path / "here")
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_killed_training_ends_with_the_same_bytes(student: ModelRef, tmp_path: Path) -> None:
    """Killed while it writes the checkpoint of step 4, it continues from that of step 2."""
    training = settings(lora={"dropout": 0.2}, epochs=2)  # 6 steps, checkpoints every 2; the last batches are small
    pairs = make_pairs(10)
    folder = tmp_path / "killed"

    def killed() -> None:
        save = DeltaTrainer._save_optimizer_and_scheduler

        def half_save(self: DeltaTrainer, output_dir: str) -> None:
            save(self, output_dir)
            if self.state.global_step == 4:
                os.kill(os.getpid(), signal.SIGKILL)

        DeltaTrainer._save_optimizer_and_scheduler = half_save  # type: ignore[method-assign]
        train_here(student, pairs, training, folder)

    assert forked(killed) == -signal.SIGKILL
    assert (folder / "checkpoints" / "checkpoint-4" / "optimizer.pt").exists()
    assert [path.parent.name for path in (folder / "checkpoints").glob("*/complete")] == ["checkpoint-2"]
    assert len(metrics(folder)) == 4
    assert not (folder / "adapter_model.safetensors").exists()

    done: list[int] = []
    train_here(student, pairs, training, folder, progress=lambda now, total: done.append(now))
    assert done == [3, 4, 5, 6]
    train_here(student, pairs, training, tmp_path / "undisturbed")
    assert contents(folder) == contents(tmp_path / "undisturbed")


def test_checkpoints_of_another_trainer_are_left_alone(student: ModelRef, tmp_path: Path) -> None:
    foreign = tmp_path / "run" / "checkpoints" / "checkpoint-7" / "model.bin"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("days of work")
    with pytest.raises(PrefdeltaError, match="checkpoints holds files that prefdelta did not write"):
        train_here(student, make_pairs(10), settings(epochs=2), tmp_path / "run")
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [foreign]
    # Beside the training's own, whatever their names.
    beside = tmp_path / "fresh" / "checkpoint-7" / "model.bin"
    beside.parent.mkdir(parents=True)
    beside.write_text("days of work")
    train_here(student, make_pairs(10), settings(epochs=2), tmp_path / "fresh")
    assert beside.read_text() == "days of work"
    assert not (tmp_path / "fresh" / "checkpoints").exists()


@pytest.mark.parametrize(("dtype", "option"), [("auto", {"beta": 0.5}), ("bfloat16", {})])
def test_a_checkpoint_of_another_training_is_not_used(
    student: ModelRef, tmp_path: Path, dtype: str, option: dict[str, float]
) -> None:
    pairs, folder = make_pairs(10), tmp_path / "out"
    with pytest.raises(Stopped):
        train_here(student, pairs, settings(epochs=2), folder, progress=stop)
    assert (folder / "checkpoints" / "checkpoint-2" / "complete").exists()
    for place in (folder, tmp_path / "fresh"):
        train_here(student.model_copy(update={"dtype": dtype}), pairs, settings(epochs=2, **option), place)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_a_disk_that_is_full_at_a_checkpoint_is_told_and_the_checkpoint_before_stays(
    student: ModelRef, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the full disk: torch reports either as a RuntimeError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(done: int, total: int) -> None:
        if done == 3:
            weights = tmp_path / "full/checkpoints/checkpoint-2/adapter_model.safetensors"
            resource.setrlimit(resource.RLIMIT_FSIZE, (weights.stat().st_size * 3 // 2, hard))

    training = settings(batch_size=1)
    try:
        with pytest.raises(PrefdeltaError, match=r"cannot write the checkpoint .*checkpoint-4.*run again to continue"):
            train_here(student, make_pairs(6), training, tmp_path / "full", progress=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "full/checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]
    steps: list[int] = []
    train_here(student, make_pairs(6), training, tmp_path / "full", progress=lambda done, total: steps.append(done))
    assert steps == [3, 4, 5, 6]
    train_here(student, make_pairs(6), training, tmp_path / "roomy")
    for name in ("adapter_model.safetensors", "metrics.jsonl", "training.json"):
        assert (tmp_path / "full" / name).read_bytes() == (tmp_path / "roomy" / name).read_bytes()
