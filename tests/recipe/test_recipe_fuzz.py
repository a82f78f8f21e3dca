"""A short attack on recipes and their plans; the long form is ``benchmarks/fuzz_recipes.py``."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from prefdelta.core.errors import MAX_MESSAGE, PrefdeltaError
from prefdelta.recipe import load_recipe
from recipe_fuzz import SHIPPED, attack, spoiled


def test_spoiled_recipes_become_plans_or_sentences_and_nothing_is_written(tmp_path: Path) -> None:
    found, wrong, _ = attack(tmp_path, seed=7, count=150)
    assert not wrong
    total = sum(found.values(), start=type(next(iter(found.values())))())
    assert total["planned"] > 5
    assert total["refused"] > 50


def test_the_attack_spoils_recipes_and_hears_what_is_written_and_deleted(tmp_path: Path) -> None:
    draw, text = random.Random(0), SHIPPED[0].read_text(encoding="utf-8")
    assert len({spoiled(text, draw) for _ in range(40)}) > 30

    def careless(path: Path, root: Path) -> None:
        root.mkdir()
        (root / "x").write_text("x")
        shutil.rmtree(root)

    _, wrong, _ = attack(tmp_path, seed=0, count=1, task=careless)
    assert {told.split()[3] for told in wrong} >= {"os.mkdir", "writes", "shutil.rmtree"}


@pytest.mark.parametrize("name", ["x" * 5000, "a\nb\r\nc", ["x"] * 5000, {"k" * 400: "v" * 400}])
def test_a_message_is_one_short_line_whatever_the_recipe_holds(name: object, tmp_path: Path) -> None:
    raw = SHIPPED[0].read_text(encoding="utf-8")
    path = tmp_path / "r.yaml"
    path.write_text(raw.replace("name: micro\n", f"name: {name!r}\n"), encoding="utf-8")
    with pytest.raises(PrefdeltaError) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= MAX_MESSAGE
