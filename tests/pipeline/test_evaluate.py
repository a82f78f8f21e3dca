"""``prefdelta evaluate``: what it writes, that it goes on after a kill, and that it is kept by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefdelta.pipeline.making import make
from prefdelta.pipeline.single import evaluate_unit
from prefdelta.pipeline.unit import Unit, Workbench
from prefdelta.records import Record, read_rows
from prefdelta.store import Store

SETTINGS = ("batch_size=4", "max_new_tokens=24", "temperature=1.0")


def unit(items: str = "micro:chain", **changes: Any) -> Unit:
    given: dict[str, Any] = {"server": None, "adapter": None, "scale": 1.0, "seed": 0, "search": None, **changes}
    settings = SETTINGS if items.startswith("micro:") else ("batch_size=4", "max_gen_toks=24")
    benchmark = {"items": items, "scorer": "exact-match", "count": 80, "data": None}
    return evaluate_unit("micro:student", benchmark=benchmark, settings=settings, **given)


def made(work: Unit, root: Path, progress: Any = None) -> Path:
    return make(work, Store(root, journal=False), {}, Workbench(progress), name="evaluation").path


@pytest.mark.parametrize("items", ["micro:chain", "lm_eval:prefdelta_micro_ledger"])
def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, items: str) -> None:
    if items.startswith("lm_eval:"):
        pytest.importorskip("lm_eval")
    whole = made(unit(items), tmp_path / "whole") / "records.jsonl"
    done: list[int] = []

    def killed(finished: int, total: int) -> None:
        done.append(finished)
        if finished >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(unit(items), tmp_path / "broken", killed)
    assert done == [32]
    again: list[int] = []
    resumed = made(unit(items), tmp_path / "broken", lambda finished, total: again.append(finished))
    assert again == [64, 80]
    assert (resumed / "records.jsonl").read_bytes() == whole.read_bytes()
    # What is there and was made from exactly this is not made again; another seed is something else.
    made(unit(items), tmp_path / "broken", lambda *_: pytest.fail("answered again"))
    assert made(unit(items, seed=1), tmp_path / "broken", lambda finished, total: again.append(finished))
    assert again[-1] == 80


def test_a_record_says_what_was_asked_and_how_it_was_scored(tmp_path: Path) -> None:
    records = read_rows(made(unit(), tmp_path) / "records.jsonl", Record)
    assert len({record.prompt_hash for record in records}) == len({record.item for record in records}) == 80
    assert {record.scorer for record in records} == {"exact-match"}
    assert all(record.unparsed == (record.parsed is None) for record in records)
    assert all(record.reasoning == "" and record.answer == record.output for record in records)


def test_a_search_protocol_reaches_the_conversation(tmp_path: Path) -> None:
    search = {"corpus": "micro:corpus", "protocol": "search_r1", "window": None, "max_turns": 2}
    work = unit("micro:lookup", search=search)
    assert work.config["search"]["turn_tokens"] == 500
    records = read_rows(made(work, tmp_path) / "records.jsonl", Record)
    assert {"format", "searches", "recall"} <= set(records[0].extra)
    assert all(0 <= record.extra["searches"] <= 2 for record in records)
