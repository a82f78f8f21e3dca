"""``prefdelta evaluate``: what it writes, that it goes on after a kill, and that it is kept by content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefdelta import micro
from prefdelta.cli.outcome import search_words
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Record, read_rows, write_rows
from prefdelta.core.store import Store
from prefdelta.evaluation.results import EvaluationResults
from prefdelta.experiments.checking import checked
from prefdelta.experiments.execution.make import build, reuse
from prefdelta.experiments.single.evaluation import evaluate_unit, read_score
from prefdelta.experiments.unit import RunContext, Unit
from prefdelta.recipe import Named, Search
from prefdelta.report.results import read_results

SETTINGS = ("batch_size=4", "max_new_tokens=24", "temperature=1.0")

PLAIN: dict[str, Any] = {"server": None, "adapter": None, "scale": 1.0, "seed": 0, "search": None}
ASKED: dict[str, Any] = {"scorer": "exact-match", "count": None, "data": None}


def micro_items(count: int) -> list[Item]:
    return micro.items("chain", split="test", count=count)


def unit(items: str = "micro:chain", **changes: Any) -> Unit:
    given: dict[str, Any] = {"server": None, "adapter": None, "scale": 1.0, "seed": 0, "search": None, **changes}
    settings = SETTINGS if items.startswith("micro:") else ("batch_size=4", "max_gen_toks=24")
    benchmark = {"items": items, "scorer": "exact-match", "count": 80, "data": None}
    return evaluate_unit("micro:student", benchmark=benchmark, settings=settings, **given)


def made(work: Unit, root: Path, progress: Any = None) -> Path:
    work, store = replace(work, name="evaluation"), Store(root, journal=False)
    return (reuse(work, store, {}) or build(work, store, {}, RunContext(progress))).path


def test_a_setting_that_would_change_nothing_is_refused() -> None:
    with pytest.raises(PrefdeltaError, match="n must be 1: an item is answered once"):
        evaluate_unit("micro:student", benchmark={"items": "micro:chain", **ASKED}, settings=("n=2",), **PLAIN)


def test_the_words_that_a_run_ends_with_search_as_its_recipe() -> None:
    search = Search(corpus="micro:corpus", top_k=1, max_turns=4, retriever=Named(name="bm25"))
    words = search_words(search)
    options = {words[at].lstrip("-"): words[at + 1] for at in range(0, len(words), 2) if words[at] != "--set"}
    settings = tuple(words[at + 1] for at in range(0, len(words), 2) if words[at] == "--set")
    assert settings == ("search.top_k=1", "search.max_turns=4")
    benchmark = {"items": "micro:lookup", **ASKED}
    asked = evaluate_unit("micro:student", benchmark=benchmark, settings=settings, **{**PLAIN, "search": options})
    assert asked.config["search"] == checked(search).model_dump(mode="json")


def test_how_to_search_is_refused_where_nothing_is_searched() -> None:
    with pytest.raises(PrefdeltaError, match=r"search\.top_k: nothing is searched; name what is with --corpus"):
        evaluate_unit(
            "micro:student", benchmark={"items": "micro:lookup", **ASKED}, settings=("search.top_k=1",), **PLAIN
        )


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
    assert done == [16, 32]
    again: list[int] = []
    resumed = made(unit(items), tmp_path / "broken", lambda finished, total: again.append(finished))
    assert again == [48, 64, 80]
    assert (resumed / "records.jsonl").read_bytes() == whole.read_bytes()
    # What is there and was made from exactly this is not made again; another seed is something else.
    made(unit(items), tmp_path / "broken", lambda *_: pytest.fail("answered again"))
    assert made(unit(items, seed=1), tmp_path / "broken", lambda finished, total: again.append(finished))
    assert again[-1] == 80


@pytest.mark.parametrize("number", [2, 20])
def test_a_file_is_asked_whole(tmp_path: Path, number: int) -> None:
    file = tmp_path / "items.jsonl"
    write_rows(file, [replace(item, id=f"n-{place}") for place, item in enumerate(micro_items(number))])
    work = evaluate_unit("micro:student", benchmark={**ASKED, "items": str(file)}, settings=SETTINGS, **PLAIN)
    records = read_rows(made(work, tmp_path / "all") / "records.jsonl", Record)
    assert {record.item for record in records} == {f"n-{place}" for place in range(number)}
    some = evaluate_unit(
        "micro:student", benchmark={**ASKED, "items": str(file), "count": 1}, settings=SETTINGS, **PLAIN
    )
    assert len(read_rows(made(some, tmp_path / "one") / "records.jsonl", Record)) == 1


def test_a_file_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"cannot read .*items\.jsonl: No such file or directory"):
        evaluate_unit(
            "micro:student", benchmark={**ASKED, "items": str(tmp_path / "items.jsonl")}, settings=(), **PLAIN
        )


def test_an_empty_file_and_a_number_that_is_none_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").touch()
    benchmark = {**ASKED, "items": str(tmp_path / "items.jsonl")}
    with pytest.raises(PrefdeltaError, match=r"items\.jsonl holds no items to evaluate on"):
        evaluate_unit("micro:student", benchmark=benchmark, settings=(), **PLAIN)
    for number in ("1e999", ".inf", ".nan"):
        with pytest.raises(PrefdeltaError, match=r"temperature.* finite"):
            evaluate_unit(
                "micro:student",
                benchmark={**ASKED, "items": "micro:chain"},
                settings=(f"temperature={number}",),
                **PLAIN,
            )


def test_a_token_budget_under_any_name_reaches_an_lm_eval_task(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    benchmark = {**ASKED, "items": "lm_eval:prefdelta_micro_ledger", "count": 4}
    for name in ("max_new_tokens", "max_tokens", "max_gen_toks"):
        work = evaluate_unit("micro:student", benchmark=benchmark, settings=(f"{name}=3",), **PLAIN)
        records = read_rows(made(work, tmp_path / name) / "records.jsonl", Record)
        assert max(record.tokens for record in records) <= 3


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


def test_what_it_came_to_is_typed_and_says_what_the_records_say(tmp_path: Path) -> None:
    folder = made(unit(), tmp_path)
    records = read_rows(folder / "records.jsonl", Record)
    found = read_results(folder / "results.json")
    assert isinstance(found, EvaluationResults)
    assert (found.model, found.adapter, found.scale, found.seed) == ("micro:student", None, 1.0, 0)
    assert list(found.tasks) == ["chain"]
    assert found.tasks["chain"].n == len(records) == 80
    mean = sum(100 * record.score for record in records) / 80
    assert found.score == found.tasks["chain"].score == pytest.approx(mean, abs=1e-4)
    unread = sum(record.unparsed for record in records)
    assert found.tasks["chain"].unparsed == pytest.approx(100 * unread / 80, abs=1e-4)
    assert read_score(folder) == f"score {found.score:.1f} on 80 items ({unread} without a readable answer)"
