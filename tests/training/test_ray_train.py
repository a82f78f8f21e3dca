"""One training in two processes that Ray Train starts is the training of one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from prefdelta.core.records import write_rows
from prefdelta.recipe import ModelRef
from training_runs import make_pairs

SCRIPT = Path(__file__).parents[2] / "recipes" / "cluster" / "ray-train.py"
HAS_RAY = importlib.util.find_spec("ray") is not None
ALONE = ["unshare", "--net", "--map-root-user"]  # Ray's ports are open to all who reach this machine
LOOPBACK = 'ip link set lo up && exec "$@"'


@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed; `make test-ray` does it in an environment of its own")
def test_two_processes_of_ray_train_give_the_adapter_of_one(student: ModelRef, tmp_path: Path) -> None:
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, make_pairs(9))
    settings = ("batch_size=4", "micro_batch_size=2", "learning_rate=1e-4", "lora.r=4", "lora.alpha=8")
    words = ["train", rows, "--student", student.path, *(word for each in settings for word in ("--set", each))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    one = [sys.executable, "-m", "prefdelta", *words, "-o", tmp_path / "one"]
    two = [*ALONE, "sh", "-c", LOOPBACK, "_", sys.executable, SCRIPT, "2", *words, "-o", tmp_path / "two"]
    for command in (one, two):
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    apart = max(float((first[name] - second[name]).abs().max()) for name in first)
    assert max(float(tensor.abs().max()) for tensor in first.values()) > 0
    assert apart < 2e-5
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir()
    )
