"""The process that holds vLLM, its protocol, and its death; the engine in it is a stand-in with vLLM's calls."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import pytest

from prefdelta.agent import Environment
from prefdelta.agent.retrieval import Bm25Index
from prefdelta.core.config import configure
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document, Item, Sample, Span, read_rows
from prefdelta.generation import vllm
from prefdelta.generation.backends import opened_sampler
from prefdelta.generation.responses import sample_responses
from prefdelta.generation.vllm import PYTHON, VllmProcess, telling_line
from prefdelta.recipe import ModelRef, Sampling, Search

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
        folder=folder,
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
    assert len((tmp_path / "answers.kept-rows").read_text().splitlines()) == 2
    with pytest.raises(PrefdeltaError, match="vLLM process ended with code 3"):
        _sample(tmp_path, _items("one", "DIE"))
    log = tmp_path / "vllm.log"
    with pytest.raises(PrefdeltaError, match=f"ended with code 1: RuntimeError: no such weights; its log is {log}"):
        VllmProcess(ModelRef(path="org/broken"), log)
    assert "no such weights" in log.read_text()


def _alive(number: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent (a zombie) does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("standing_in")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("question", ["one", "DIE"])
def test_the_engines_own_processes_end_with_the_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setenv("STAND_IN_CHILD", str(tmp_path / "child"))
    monkeypatch.setattr(vllm, "_PATIENCE", 1.0)
    with contextlib.suppress(PrefdeltaError):
        _sample(tmp_path, _items(question))
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _alive(child):
            break
        time.sleep(0.1)
    assert not _alive(child)
    assert (tmp_path / "vllm.log").exists() == (question == "DIE")


@pytest.mark.usefixtures("standing_in")
def test_options_reach_the_engine(tmp_path: Path) -> None:
    options = {"max_model_len": 64, "gpu_memory_utilization": 0.5, "enforce_eager": True, "tensor_parallel_size": 1}
    ref = configure(ModelRef, {"path": "micro:elm-weak", "engine": "vllm", "vllm": options}, origin="test")
    with VllmProcess(ref, tmp_path / "vllm.log"):
        said = (tmp_path / "vllm.log").read_text()
    assert "64 0.5 True 1, usage stats off" in said
    with pytest.raises(PrefdeltaError, match="are for `engine: vllm`"):
        configure(ModelRef, {"path": "micro:elm-weak", "vllm": options}, origin="test")


def test_the_telling_line_is_not_the_last_one() -> None:
    log = """
(EngineCore_DP0 pid=7) ERROR 11-29 01:00:00 [core.py:700] Traceback (most recent call last):
(EngineCore_DP0 pid=7) ERROR 11-29 01:00:00 [core.py:700] ValueError: Head size 16 is not supported.
(EngineCore_DP0 pid=7) Process EngineCore_DP0:
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
[rank0]: some last words
"""
    assert telling_line(log) == "ValueError: Head size 16 is not supported"
    assert telling_line("one\ntwo\n") == "two"
    assert telling_line("") == "it said nothing"


def test_a_missing_engine_or_interpreter_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, sys.executable)
    with pytest.raises(PrefdeltaError, match="No module named 'vllm'; install vllm where PREFDELTA_VLLM_PYTHON points"):
        VllmProcess(ModelRef(path="micro:student"), tmp_path / "vllm.log")
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    with pytest.raises(PrefdeltaError, match="cannot start '/nowhere/python'"):
        VllmProcess(ModelRef(path="micro:student"), tmp_path / "vllm.log")
