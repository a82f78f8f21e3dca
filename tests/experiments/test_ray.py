"""A recipe on a real Ray cluster of three nodes: the bytes of a local run, also after it was told to end."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.run import run_recipe
from prefdelta.recipe import load_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ray_cluster.py"
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed; `make test-ray` does it in an environment of its own")
def test_a_cluster_leaves_the_bytes_of_a_local_run(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--output", str(report)], capture_output=True, text=True, check=False
    )
    if ended.stderr.startswith("no cluster can be had here"):
        pytest.skip(ended.stderr)
    assert ended.returncode == 0, ended.stderr[-2000:]
    rows = [line.split(" | ") for line in report.read_text().splitlines() if line.startswith("| ")]
    assert {row[0]: row[1] for row in rows[2:]} == {  # after the head of the table and the local run
        f"| {case}": "same" for case in ("undisturbed", "interrupted", "shards", "store")
    }


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_the_extra_is_named(small_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"pip install 'prefdelta\[ray\]'"):
        run_recipe(load_recipe(small_recipe), tmp_path / "run", executor="ray")


def test_an_executor_that_is_none_and_a_stage_that_is_none_are_named(small_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="there is no executor 'slurm'; choose local, ray or ray:ADDRESS"):
        run_recipe(load_recipe(small_recipe), tmp_path / "run", executor="slurm")
    with pytest.raises(PrefdeltaError, match="resources: there is no stage 'training'; this recipe has prompts, "):
        run_recipe(load_recipe(small_recipe, ["resources.training.gpus=1"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
