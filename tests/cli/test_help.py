"""Finding one's way in the terminal: --help in the order of work, keys of --set, methods, doctor, --version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from prefdelta.cli import app
from prefdelta.cli.doctor import FOR, requirements
from prefdelta.cli.help import REFERENCES, SECTIONS, setting_keys
from prefdelta.cli.methods import option_lines
from prefdelta.merging import METHODS
from prefdelta.merging.guide import CHOOSER, MEASURED, when_to_use
from prefdelta.merging.learned.methods import LEARNED
from whole_runs import command

DOCS = Path(__file__).parents[2] / "docs"
Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Call the command line; returns exit code and all that it printed."""

    def call(*words: str) -> tuple[int, str]:
        code, found = command(*words), capsys.readouterr()
        return code, found.out + found.err

    return call


def commands() -> set[str]:
    shown = {info.name or info.callback.__name__ for info in app.registered_commands if not info.hidden}  # type: ignore[union-attr]
    return shown | {str(group.name) for group in app.registered_groups}


def test_every_command_stands_in_one_section_and_has_a_page() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) == commands() == REFERENCES.keys()
    assert [reference.page for reference in REFERENCES.values() if not (DOCS / reference.page).is_file()] == []


def test_help_lists_the_commands_in_the_order_of_work(said: Said) -> None:
    code, text = said("--help")
    assert code == 0
    places = [text.index(f"{title}:\n") for title in SECTIONS]
    assert places == sorted(places)


def test_no_command_is_described_by_half_a_sentence(said: Said) -> None:
    _, text = said("--help")
    assert [line for line in text.splitlines() if line.endswith("...") and not line.startswith("Usage")] == []


def test_the_help_of_a_command_lists_its_own_settings(said: Said) -> None:
    _, text = said("train", "--help")
    for line in ("lora.r [64]", "learning_rate [", "student.KEY: dtype", "docs/training.md"):
        assert line in text
    assert "together" not in text  # a recipe's key, which the command refuses
    assert "model.KEY: dtype" in said("evaluate", "--help")[1]
    assert "lora.r" not in said("merge", "--help")[1]


@pytest.mark.parametrize("name", [name for name, reference in REFERENCES.items() if reference.models])
def test_settings_are_those_that_the_models_know(name: str) -> None:
    assert len(setting_keys(REFERENCES[name])) > len(REFERENCES[name].also)


def test_the_version_is_the_packages(said: Said) -> None:
    assert said("--version") == (0, f"prefdelta {metadata.version('prefdelta')}\n")


def test_every_method_says_when_to_use_it() -> None:
    assert [name for name in METHODS if when_to_use(name) is None] == []
    assert all(name in METHODS or name in LEARNED for name, _ in CHOOSER)
    assert when_to_use("somebody-elses") is None


def test_the_scores_of_the_choice_are_the_measured_ones() -> None:
    evidence = json.loads((DOCS.parent / "benchmarks" / "results" / "evidence.json").read_text(encoding="utf-8"))
    found = evidence["claims"]["sharpening"]["scores"]
    cells = {"average": "average", "gam": "gam", "ties": "ties .2", "truncate": "truncate, energy .5"}
    cells["truncate-ties"] = "truncate-ties, energy .5"
    assert {name: found[cell]["mean"] for name, cell in cells.items()} == MEASURED
    assert all(len(found[cell]) == 9 for cell in cells.values())  # eight cells and their mean


def test_methods_begins_with_a_choice(said: Said) -> None:
    _, text = said("methods")
    assert text.index("Which one?") < text.index("All ") < text.index("Learned merges")
    assert "knots-RULE" in text
    assert "core-sce" not in text  # one line for all rules of a space


def test_options_are_told_in_words() -> None:
    lines = [line for entry in METHODS.values() for line in option_lines(entry.options)]
    assert "reference=0  (whole number, at least 0 or chordal-mean)" in lines
    assert [line for line in lines if re.search(r"FieldInfo|Annotated|typing|\[|None", line)] == []


def test_a_method_is_told_with_its_options_and_use(said: Said) -> None:
    _, text = said("methods", "core-ties")
    for words in ("When. ", "def core_ties(", "--set density=0.2"):
        assert words in text
    assert "prefdelta learn" in said("methods", "tara-a")[1]


def test_doctor_says_what_each_extra_is_for() -> None:
    assert {extra for extra, *_ in requirements() if extra} - {"test", "lint", "docs"} == FOR.keys()


def test_doctor_asks_the_named_interpreter_for_vllm(
    said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFDELTA_VLLM_PYTHON", str(tmp_path / "gone"))
    assert "does not run" in " ".join(said("doctor")[1].replace("│", " ").split())
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho torch 2.0 vllm 0.32.0\n")
    other.chmod(0o755)
    monkeypatch.setenv("PREFDELTA_VLLM_PYTHON", str(other))
    assert "vllm 0.32.0" in said("doctor")[1]


def test_doctor_tells_packages_devices_and_what_cannot_be_reached(said: Said) -> None:
    code, text = said("doctor")
    assert code == 0
    for words in ("torch ", "dense", "cpu", "Nothing was asked"):
        assert words in text
    code, text = said("doctor", "--server", "http://127.0.0.1:9/v1", "--timeout", "1")
    assert code == 1
    assert "http://127.0.0.1:9/v1/models: not reached" in text
