"""What commands can say of a model is what recipes can say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, write_rows
from prefdelta.experiments.single.answers import sample_unit
from prefdelta.experiments.single.evaluation import evaluate_unit
from prefdelta.experiments.single.learning import learn_unit
from prefdelta.experiments.single.settings import model_from, served_or_loaded
from prefdelta.experiments.single.training import train_unit
from prefdelta.experiments.single.unit import run_single
from prefdelta.recipe import ModelRef, Server


def test_settings_of_a_model_are_taken_from_those_of_the_command() -> None:
    raw: dict[str, Any] = {"base": {"dtype": "bfloat16", "revision": "abc", "thinking": True}, "seed": 1}
    assert model_from("base", "m", raw) == ModelRef(path="m", dtype="bfloat16", revision="abc", thinking=True)
    assert raw == {"seed": 1}
    served = served_or_loaded("model", "m", "http://localhost:1/v1", {"model": {"concurrency": 2}})
    assert served == Server(url="http://localhost:1/v1", model="m", concurrency=2)
    with pytest.raises(PrefdeltaError, match=r"--set base: unknown key 'dtyp'; did you mean 'dtype'\?"):
        model_from("base", "m", {"base": {"dtyp": "float32"}})
    with pytest.raises(PrefdeltaError, match="give its settings singly"):
        model_from("base", "m", {"base": "bfloat16"})


def test_every_command_takes_them(tmp_path: Path) -> None:
    asked = {"items": "micro:chain", "scorer": None, "count": 2, "data": None}
    evaluated = evaluate_unit("micro:student", None, asked, None, 1.0, 0, None, ("model.dtype=bfloat16",))
    trained = train_unit(tmp_path / "p.jsonl", "micro:student", None, None, 0, ("student.dtype=bfloat16",))
    pairs = [tmp_path / "p.jsonl"]
    learned = learn_unit(
        [tmp_path / "a", tmp_path / "b"], "micro:student", "tara-b", pairs, (), 0, ("base.dtype=bfloat16",)
    )
    found = (evaluated.config["model"], trained.config["student"], learned.config["base"])
    assert [model["dtype"] for model in found] == ["bfloat16"] * 3


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_question_that_fills_the_context_is_told_before_any_is_answered(command: str, tmp_path: Path) -> None:
    items, output = tmp_path / "items.jsonl", tmp_path / "out"
    rows = [("short", "2+2?"), ("long", "1 2 3 " * 200)]
    asked = [Item(name, "t", ({"role": "user", "content": text},), ("4",)) for name, text in rows]
    write_rows(items, asked)
    if command == "sample":
        unit = sample_unit("micro:student", str(items), None, None, ())
    else:
        benchmark = {"items": str(items), "scorer": None, "count": None, "data": None}
        unit = evaluate_unit("micro:student", None, benchmark, None, 1.0, 0, None, ())
    with pytest.raises(PrefdeltaError, match=r"(prompts|items): the question 'long' has .* reads at most 256"):
        run_single(unit, output, Console(quiet=True))
    assert list(tmp_path.iterdir()) == [items]
