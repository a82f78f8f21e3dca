"""One training in two processes (gloo, CPU) is the training of one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import write_rows
from prefdelta.experiments.run import run_recipe
from prefdelta.experiments.single.training import train_unit
from prefdelta.recipe import ModelRef, load_recipe
from ranks import train_together
from training_runs import flat, make_pairs, make_triples, metrics, settings, train_here


def test_two_processes_give_the_adapter_of_one(student: ModelRef, tmp_path: Path) -> None:
    """Nine triples in batches of 4: the last step has a row for one process only. WRPO has all that can go wrong."""
    triples, rows = make_triples(9), tmp_path / "rows.jsonl"
    write_rows(rows, triples)
    training = settings(objective="wrpo", beta=0.5, alpha=0.5, learning_rate=1e-4)
    assert train_together(2, student, rows, training, tmp_path / "two") == [0, 0]
    train_here(student, triples, training, tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(one) == len(two) == 3
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("loss", "grad_norm", "logps/source", "lengths/rejected", "alpha"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name
    # Adam's first steps are about the size of the learning rate, whatever the gradient's.
    torch.testing.assert_close(flat(tmp_path / "one"), flat(tmp_path / "two"), rtol=0, atol=2e-5)
    assert float((flat(tmp_path / "one")).abs().max()) > 1e-3


def test_two_killed_processes_continue(student: ModelRef, tmp_path: Path) -> None:
    """Killed within the checkpoint of step 4, both continue from step 2, each with its own dropout."""
    pairs, rows = make_pairs(10), tmp_path / "rows.jsonl"
    write_rows(rows, pairs)
    training = settings(objective="sft", lora={"dropout": 0.2}, epochs=2)
    assert -signal.SIGKILL in train_together(2, student, rows, training, tmp_path / "killed", 4)
    assert not (tmp_path / "killed" / "adapter_model.safetensors").exists()
    for name in ("killed", "undisturbed"):
        assert train_together(2, student, rows, training, tmp_path / name) == [0, 0]
    for file in ("adapter_model.safetensors", "metrics.jsonl", "training.json"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "undisturbed" / file).read_bytes()


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "a parallelism configuration"),
    ],
)
def test_a_launcher_that_would_cut_the_base_is_refused_at_the_start(
    small_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    name: str,
) -> None:
    """Before any file is read: these are not there."""
    student, folder, missing = ModelRef(path="/not/there"), tmp_path / "out", Path("/not/there.jsonl")
    refused = pytest.raises(PrefdeltaError, match=f"{variable} asks for {name}.*copies the base into each process")
    monkeypatch.setenv(variable, "true")
    with refused:
        train_here(student, make_pairs(8), settings(), folder)
    with refused:
        train_unit(missing, student.path, None, None, 0, ())
    with refused:
        run_recipe(load_recipe(small_recipe), folder)
    assert not folder.exists()
    monkeypatch.setenv(variable, "false")
    with pytest.raises(PrefdeltaError, match="/not/there"):
        train_here(student, make_pairs(8), settings(), folder)
