"""What a manifest tells of the command that made an output: what decides the result, and nothing of machine or keys."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from prefdelta.core.invocation import command, invoked, told
from prefdelta.core.manifests import read_manifest
from prefdelta.core.outputs import staged_folder
from prefdelta.core.store import Store


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("evaluate micro:student micro:chain -o out --overwrite", "evaluate micro:student micro:chain"),
        ("tune A B --output=out --scales 1,2", "tune A B --scales 1,2"),
        ("compare a b --json told.json", "compare a b"),
        ("merge a b -o/home/me/out", "merge a b"),
        ("evaluate /home/me/model pairs:/data/of/me/held.jsonl", "evaluate model pairs:held.jsonl"),
        ("evaluate m q --set questions.source=/data/q.jsonl", "evaluate m q --set questions.source=q.jsonl"),
        ("judge arena a b --judge http://localhost:8000/v1", "judge arena a b --judge http://localhost:8000/v1"),
        ("judge arena a b --judge https://me:pw@host/v1?key=1#x", "judge arena a b --judge https://host/v1"),
        ("sample m q --set source.url=https://pw@host/v1", "sample m q --set source.url=https://host/v1"),
        ("learn deltas/a ../b", "learn deltas/a ../b"),
    ],
)
def test_places_of_machines_and_secrets_are_left_out(given: str, kept: str) -> None:
    assert list(told(shlex.split(given))) == shlex.split(kept)


def test_manifests_tell_the_command_that_was_at_work(tmp_path: Path) -> None:
    words = ["tune", "a b", "--set", "x=$(touch owned)"]
    with invoked(words):
        with staged_folder(tmp_path / "staged") as folder:
            (folder / "text").write_text("text")
        Store(tmp_path, journal=False).build(
            "built", stage="s", config={}, inputs={}, make=lambda work: (work / "text").touch()
        )
    assert command() == ()
    with staged_folder(tmp_path / "called") as folder:
        (folder / "text").write_text("text")
    for name, expected in (("staged", words), ("built", words), ("called", None)):
        manifest = read_manifest(tmp_path / name)
        assert manifest is not None
        assert manifest.get("command") == expected


def test_the_same_command_gives_the_same_bytes_wherever_its_output_goes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with invoked(["tune", "a", "-o", str(tmp_path / name)]), staged_folder(tmp_path / name) as folder:
            (folder / "text").write_text("text")
    one, other = ((tmp_path / name / "manifest.json").read_text() for name in ("one", "other"))
    assert json.loads(one) == json.loads(other)
