"""Evaluation on vLLM's engine: one start for many adapters, and what is refused; the engine is a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Record, read_rows
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.answers import write_responses
from prefdelta.experiments.evaluation import Exam, Subject, division_of_records, evaluate
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.unit import RunContext
from prefdelta.linalg.lowrank import LowRank
from prefdelta.recipe import Benchmark, ModelRef, Questions, Sampling, load_recipe

STAND_IN = Path(__file__).parents[1] / "vllm_standin"
STUDENT = ModelRef(path="micro:student", engine="vllm")
ASKED = [Benchmark(name="lookup", questions=Questions(source="micro:lookup"), validation=0, test=6)]
MODULE = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gets a line, the largest rank, whenever an engine starts."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv("PREFDELTA_VLLM_PYTHON", sys.executable)
    monkeypatch.setenv("STAND_IN_STARTS", str(tmp_path / "starts"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / "starts"


def adapter(folder: Path, rank: int, value: float = 1.0) -> Path:
    update = LowRank(torch.full((64, rank), value), torch.ones(rank, 64))
    write_adapter(folder, [(MODULE, update)], like=AdapterInfo(base_model="micro:student", task_type="CAUSAL_LM"))
    return folder


def answers(folder: Path, context: RunContext, variant: Path | None, scale: float = 1.0, rank: int = 0) -> list[str]:
    evaluate(folder, context, Subject(STUDENT, variant, scale), Exam(ASKED, Sampling(), None, "test", 0), rank=rank)
    assert {path.name for path in folder.iterdir()} == {"records.jsonl", "records.kept-rows"}
    return [record.output for record in read_rows(folder / "records.jsonl", Record)]


def test_one_engine_answers_for_the_base_and_for_adapters_one_after_another(tmp_path: Path, starts: Path) -> None:
    one, other = adapter(tmp_path / "one", 2), adapter(tmp_path / "other", 60, 2.0)
    context = RunContext()
    bare = answers(tmp_path / "bare", context, None, rank=40)
    first = answers(tmp_path / "first", context, one)
    doubled = answers(tmp_path / "doubled", context, one, 2.0)
    again = answers(tmp_path / "again", context, one)
    second = answers(tmp_path / "second", context, other)
    assert starts.read_text().split() == ["64"]  # what holds the rank that was announced
    wide = adapter(tmp_path / "wide", 65)
    answers(tmp_path / "third", context, wide)
    assert starts.read_text().split() == ["64", "128"]
    assert not any("with" in answer for answer in bare)
    assert first == again
    assert len({answer[:13] for answer in (bare[0], first[0], doubled[0], second[0])}) == 4
    assert list(tmp_path.glob("prefdelta-vllm-*.log"))
    context.release()
    assert not list(tmp_path.glob("prefdelta-vllm-*.log"))


def test_each_shard_has_an_engine_of_its_own_and_they_join_to_the_whole(tmp_path: Path, starts: Path) -> None:
    """An engine makes up its own batches, so that every request can be in another shard."""
    one, sampling = adapter(tmp_path / "one", 2), Sampling(batch_size=16)
    settings = (Subject(STUDENT, one), Exam(ASKED, sampling, None, "test", 0))
    context = RunContext()
    evaluate(tmp_path / "whole", context, *settings)
    for number in range(4):
        context.release()
        evaluate(tmp_path / str(number), context, *settings, shard=Shard(number, 4))
    context.release()
    parts = [(tmp_path / str(number) / "records.jsonl").read_bytes() for number in range(4)]
    assert b"".join(parts) == (tmp_path / "whole" / "records.jsonl").read_bytes()
    assert [part.count(b"\n") for part in parts] == [1, 2, 1, 2]
    assert len(starts.read_text().split()) == 5
    items = [Item(f"i{number}", "t", ({"role": "user", "content": "?" * number},)) for number in range(5)]
    for name, shard in {"all": WHOLE, "first": Shard(0, 2), "second": Shard(1, 2)}.items():
        (tmp_path / name).mkdir()
        write_responses(tmp_path / name, items, context, STUDENT, sampling, None, shard)
    first, second, whole = ((tmp_path / name / "responses.jsonl").read_bytes() for name in ("first", "second", "all"))
    assert first + second == whole
    division = division_of_records(STUDENT, settings[1], lambda *_, **__: None)
    assert division.groups == 6


def test_what_the_engine_cannot_put_on_or_does_not_is_told(
    tmp_path: Path, starts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = RunContext()
    wide = adapter(tmp_path / "wide", 513)
    message = "wide has rank 513, and vLLM takes 512 at most; cut it with `prefdelta merge --rank 512`, merge fewer"
    with pytest.raises(PrefdeltaError, match=message):
        answers(tmp_path / "none", context, wide)
    assert not starts.exists()  # known before an engine starts
    monkeypatch.setenv("STAND_IN_IGNORES", "1")
    with pytest.raises(
        PrefdeltaError, match=r"vLLM answers with the adapter .*one as without it \(largest difference 0"
    ):
        answers(tmp_path / "ignored", context, adapter(tmp_path / "one", 2))
    assert not list((tmp_path / "ignored").iterdir())
    with pytest.warns(UserWarning, match="is zero everywhere"):
        answers(tmp_path / "zero", context, adapter(tmp_path / "nothing", 2, 0.0))
    context.release()


def test_a_recipe_announces_the_rank_of_its_merges_and_keys_tell_the_engine(tmp_path: Path, small_recipe: Path) -> None:
    plain = {unit.name: unit for unit in plan_for(load_recipe(small_recipe), tmp_path).units}
    on_engine = plan_for(load_recipe(small_recipe, ["student={path: 'micro:student', engine: vllm}"]), tmp_path)
    (domain,) = on_engine.domains.values()  # type: ignore[attr-defined]
    assert isinstance(domain, DomainContext)
    assert domain.rank == 2 * 4
    for unit in on_engine.units:
        asks_the_student = unit.stage in ("validation", "test") and "/weak/" not in unit.name
        assert (unit.config != plain[unit.name].config) == asks_the_student, unit.name
