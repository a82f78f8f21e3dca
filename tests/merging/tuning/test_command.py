"""The command ``tune``: what it prints, and the words that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prefdelta.cli import app
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.tuning import RECORD_NAME

GIVEN = {
    "--base": "micro:student",
    "--items": "micro:chain",
    "--count": "16",
    "--methods": "average, gam",
    "--scales": "1,projection",
    "--select": "greedy",
    "--tune-weights": "2",
}
SET = ("temperature=1.0", "max_new_tokens=40", "gam.tolerance=0.000001")


def command(deltas: list[Path], output: Path, *more: str) -> str:
    """What the command prints; an option among ``more`` counts in place of the one that is given here."""
    given = [word for pair in GIVEN.items() for word in pair] + [word for key in SET for word in ("--set", key)]
    words = ["tune", *map(str, deltas), "--output", str(output), "--leave-one-out", *given, *more]
    return CliRunner().invoke(app, words, catch_exceptions=False, env={"COLUMNS": "160"}).output


def test_the_command_prints_what_was_found(deltas: list[Path], tmp_path: Path) -> None:
    shown = command(deltas[:2], tmp_path / "best")
    record = json.loads((tmp_path / "best" / RECORD_NAME).read_text())
    chosen = record["trials"][record["chosen"]]
    assert f"{100 * chosen['score']:.1f}" in shown
    for words in ("base alone", "plain average", "by itself", "chosen", "selection, step 1", "best of gam", "warning:"):
        assert words in shown
    assert all(trial["options"]["tolerance"] == 1e-6 for trial in record["trials"] if trial["method"] == "gam")
    assert {"projection", 1.0} == {trial["scale"] for trial in record["trials"]}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--scales", "1,two"), "'two' is neither a number"),
        (("--scales", "1,auto"), "auto stands alone"),
        (("--scales", "auto", "--budget", "4"), "budget of at least 5, not 4"),
        (("--methods", "average", "--set", "gam=1"), "write gam.OPTION=VALUE"),
        (("--set", "temprature=1"), "did you mean 'temperature'"),
        (("--set", "n=2"), "--set: n must be 1"),
        (("--methods", "average,gamm"), "did you mean 'gam'"),
    ],
)
def test_the_command_names_a_wrong_word(deltas: list[Path], tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    with pytest.raises(PrefdeltaError, match=words):
        command(deltas, tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()
