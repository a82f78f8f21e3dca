"""Commands killed at any step of their work with files: nothing half-made is ever seen, the next run gives the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lora_fixtures import save_lora, tiny_qwen
from prefdelta.merging import merge

DRIVER = Path(__file__).with_name("kill_driver.py")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    tiny_qwen().save_pretrained(folder / "base")
    for seed in (1, 2):
        save_lora(tiny_qwen(), folder / str(seed), seed, r=2, lora_alpha=4, target_modules=["q_proj"])
    return folder


def trials(folder: Path, old: Path | None, *commands: list[str], last: int) -> tuple[dict[str, Any], list[Any]]:
    ran = subprocess.run(
        [sys.executable, str(DRIVER), str(folder), str(old or ""), json.dumps(commands), str(last)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert len(found["trials"]) > 5
    assert all(trial["killed"] for trial in found["trials"])
    assert not found["undisturbed"]["killed"]
    return found["undisturbed"], found["trials"]


def command(name: str, inputs: Path, out: Path) -> list[str]:
    if name == "apply":
        return ["apply", str(inputs / "base"), str(inputs / "1"), "-o", str(out)]
    return ["merge", str(inputs / "1"), str(inputs / "2"), "-o", str(out), "--method", "ties"]


@pytest.mark.parametrize("name", ["merge", "apply"])
def test_a_killed_run_leaves_no_output_and_the_next_one_is_as_if_it_had_not_been(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    line = command(name, inputs, place / "out")
    # Before its last steps, all that a run does is read.
    undisturbed, killed = trials(place, None, line, [*line, "--overwrite"], last=100 if name == "merge" else 12)
    assert undisturbed["after"]
    for trial in killed:
        assert trial["after"] in (None, undisturbed["after"])
        assert trial["then"] == [{"exit": 0, "after": undisturbed["after"], "left": ["out"]}]
    assert any(trial["hidden"] for trial in killed)  # something was there to clear away


def test_a_killed_replacement_leaves_the_old_or_the_new_and_loses_neither(inputs: Path, tmp_path: Path) -> None:
    place, old = tmp_path / "place", tmp_path / "old"
    merge([inputs / "1", inputs / "2"], old, method="average", scale=2)
    was = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(old.iterdir())}
    line = command("merge", inputs, place / "out")
    undisturbed, killed = trials(place, old, [*line, "--overwrite"], line, [*line, "--overwrite"], last=10)
    new = undisturbed["after"]
    assert new != was
    for trial in killed:
        # Between two renames there is neither; the next run puts the old one back, whatever else it does.
        assert trial["after"] in (None, was, new)
        refused, replaced = trial["then"]
        assert refused == {"exit": 2, "after": trial["after"] or was, "left": ["out"]}
        assert replaced == {"exit": 0, "after": new, "left": ["out"]}
    assert any(trial["after"] is None for trial in killed)
    assert any(trial["after"] == was for trial in killed)
