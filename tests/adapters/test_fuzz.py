"""A short run of the fuzz target in ``benchmarks/fuzz_adapter.py``; its long run is a command of its own."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

TARGET = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_adapter.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fuzz_adapter", TARGET)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.path.append(str(TARGET.parent))  # the mutations lie beside it
    sys.modules["fuzz_adapter"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_500_broken_adapters_are_refused_or_read(fuzz: ModuleType, tmp_path: Path) -> None:
    outcomes = [fuzz.run_one(7, number, tmp_path / "place") for number in range(500)]
    faults = {number: outcome.fault for number, outcome in enumerate(outcomes) if outcome.fault}
    assert not faults
    accepted = Counter(outcome.accepted for outcome in outcomes)
    assert accepted[True] > 10
    assert accepted[False] > 200


def test_the_target_notices_a_stray_write_and_a_crash(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misbehave(folder: Path, output: Path) -> object:
        (folder.parent / "outside" / "stray").write_text("x")
        return fuzz.Outcome(True)

    monkeypatch.setattr(fuzz, "_exercise", misbehave)
    assert "outside/stray" in fuzz.run_one(0, 0, tmp_path / "place").fault

    def crash(folder: Path, output: Path) -> object:
        raise KeyError("boom")

    monkeypatch.setattr(fuzz, "_exercise", crash)
    assert "KeyError: 'boom'" in fuzz.run_one(0, 0, tmp_path / "place").fault


def test_inputs_depend_on_seed_and_number_alone(fuzz: ModuleType) -> None:
    def repeatable(number: int) -> bool:
        draft = fuzz.draft_of(1, number)
        # A pickle may hold memory addresses, and files that are no bytes have no equality.
        return "adapter_model.bin" not in draft.files and "odd_file" not in draft.mutations

    numbers = [number for number in range(60) if repeatable(number)]
    assert len(numbers) > 20
    drafts = [fuzz.draft_of(1, number).files for number in numbers]
    assert [fuzz.draft_of(1, number).files for number in reversed(numbers)] == drafts[::-1]
    assert drafts[0] != fuzz.draft_of(2, numbers[0]).files
