"""A short attack on model folders; the long form is ``benchmarks/fuzz_models.py``."""

from __future__ import annotations

from pathlib import Path

from model_fuzz import attack


def test_spoiled_models_are_loaded_or_sentences_and_nothing_is_written(tmp_path: Path) -> None:
    found, wrong, _ = attack(tmp_path, seed=7, count=100)
    assert not wrong
    total = sum(found.values(), start=type(next(iter(found.values())))())
    assert total["loaded"] > 5
    assert total["refused"] > 40


def test_the_attack_hears_what_is_written_and_what_crashes(tmp_path: Path) -> None:
    def careless(folder: Path) -> None:
        if folder.parent.name == "place":  # the good model is used first
            (folder.parent / "x").write_text("x")
            raise KeyError("boom")

    _, wrong, _ = attack(tmp_path, seed=0, count=1, task=careless)
    assert any("KeyError: 'boom'" in said for said in wrong)
    assert any("left ['x']" in said for said in wrong)
