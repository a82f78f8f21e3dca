"""The process that holds vLLM, its protocol, and its death; the engine in it is a stand-in with vLLM's calls."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import ModelRef, Sampling, Search
from prefdelta.records import Document, Item, Sample, Span, read_rows
from prefdelta.retrieval import Bm25Index
from prefdelta.sampling.backends import opened_sampler
from prefdelta.sampling.responses import sample_responses
from prefdelta.sampling.vllm import PYTHON, VllmProcess
from prefdelta.search import Environment

STAND_IN = Path(__file__).parents[1] / "vllm_standin"
SAMPLING = Sampling(top_k=3, max_new_tokens=9)


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv(PYTHON, sys.executable)


def _items(*questions: str) -> list[Item]:
    return [Item(f"i{place}", "t", ({"role": "user", "content": text},)) for place, text in enumerate(questions)]


def _sample(folder: Path, items: list[Item], environment: Environment | None = None) -> list[Sample]:
    def never(ref: ModelRef) -> None:
        raise AssertionError("no model may be loaded in this process")

    ref = ModelRef(path="micro:elm-weak", engine="vllm", thinking=True)
    released: list[bool] = []
    with opened_sampler(
        ref,
        SAMPLING,
        environment,
        load=never,  # type: ignore[arg-type]
        release=lambda: released.append(True),
    ) as sampler:
        sample_responses(items, sampler, folder, seed=1)
    assert released
    return read_rows(folder / "responses.jsonl", Sample)


@pytest.mark.usefixtures("standing_in")
def test_answers_and_searches_come_through_the_process(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    first, second = _sample(tmp_path / "plain", _items("one", "two"))
    assert first.text.startswith("one|")
    assert first.text.endswith("|{'enable_thinking': True}")
    assert (second.finish, second.tokens, second.thinking) == ("stop", 3, True)
    index = Bm25Index([Document("oslo", "mia was born in oslo")], top_k=1)
    (answer,) = _sample(tmp_path, _items("mia"), Environment(index, Search(corpus="given", top_k=1)))
    shown = Span("<information>mia was born in oslo</information>", "environment")
    assert answer.spans == (Span("<search>mia born</search>"), shown, Span("<answer>oslo</answer>"))


@pytest.mark.usefixtures("standing_in")
def test_one_bad_request_costs_itself_only_and_a_death_is_explained(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"1 of 3 requests \(refused x1\).*'i1'.*the prompt is too long"):
        _sample(tmp_path, _items("one", "TOOLONG", "three"))
    assert len((tmp_path / "answers.log").read_text().splitlines()) == 2
    with pytest.raises(PrefdeltaError, match="vLLM process ended with code 3"):
        _sample(tmp_path, _items("one", "DIE"))
    with pytest.raises(PrefdeltaError, match="ended with code 1: RuntimeError: no such weights"):
        VllmProcess(ModelRef(path="org/broken"))


def test_a_missing_engine_or_interpreter_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, sys.executable)
    with pytest.raises(PrefdeltaError, match="No module named 'vllm'; install vllm where PREFDELTA_VLLM_PYTHON points"):
        VllmProcess(ModelRef(path="micro:student"))
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    with pytest.raises(PrefdeltaError, match="cannot start '/nowhere/python'"):
        VllmProcess(ModelRef(path="micro:student"))
