"""The real vLLM, where ``PREFDELTA_VLLM_PYTHON`` names an interpreter that has it (``make test-vllm``)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from prefdelta import micro
from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import load
from prefdelta.core.records import Item, Record
from prefdelta.core.reference import VllmOptions
from prefdelta.evaluation.engine import VllmBackend
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.generation.completion import Completion, Refusal, Reply
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.generation.vllm import PYTHON, VllmProcess
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging.engine import merge
from prefdelta.recipe import ModelRef, Sampling

pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} is not set")

LONGEST = 128
GREEDY = {"temperature": 0.0, "max_tokens": 12, "chat_template_kwargs": {"enable_thinking": False}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded model's shape and tokenizer, with heads of 32 as vLLM's kernels want them, and random weights."""
    folder = tmp_path_factory.mktemp("model")
    source = micro.model_path("elm-weak")
    config = AutoConfig.from_pretrained(source)
    config.update({"head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 2})
    torch.manual_seed(0)
    built = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for weight in built.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # so that the likeliest token stands out
    built.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reference(model: Path) -> ModelRef:
    return ModelRef(
        path=str(model), engine="vllm", dtype="float32", vllm=VllmOptions(max_model_len=LONGEST, enforce_eager=True)
    )


@pytest.fixture(scope="module")
def engine(reference: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    """One engine for all tests, with room for adapters; afterwards none of its processes is left."""
    with VllmProcess(reference, tmp_path_factory.mktemp("log") / "vllm.log", rank=64) as process:
        group = process._process.pid
        yield process
    listed = subprocess.run(["ps", "-o", "pid=", "-g", str(group)], capture_output=True, text=True, check=False)
    assert listed.stdout.split() == []


def ask(engine: VllmProcess, *questions: str, **settings: object) -> list[Reply]:
    bodies = [{**GREEDY, **settings, "messages": [{"role": "user", "content": text}]} for text in questions]
    replies = dict(engine.replies(bodies))
    return [replies[place] for place in range(len(questions))]


def test_greedy_answers_are_those_of_transformers(engine: VllmProcess, reference: ModelRef) -> None:
    questions = [item.messages[0]["content"] for item in micro.items("reasoning", split="train", count=20)]
    items = [Item(str(n), "t", ({"role": "user", "content": text},)) for n, text in enumerate(questions)]
    local = TransformersSampler(load(reference), Sampling(temperature=0, max_new_tokens=12))
    expected = [sample.text.strip() for sample in local.sample(requests_for(items, 0))]
    found = [reply.text.strip() for reply in ask(engine, *questions) if isinstance(reply, Completion)]
    assert found == expected


def test_an_over_long_question_costs_itself_only(engine: VllmProcess) -> None:
    first, long, last = ask(engine, "What is 1+1?", "1+1? " * 4 * LONGEST, "What is 2+2?")
    assert isinstance(first, Completion)
    assert isinstance(last, Completion)
    assert isinstance(long, Refusal)
    assert long.kind == "refused"


def test_what_is_off_is_taken_as_off(engine: VllmProcess) -> None:
    off = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    assert ask(engine, "What is 3+4?", **off, frequency_penalty=0.0) == ask(engine, "What is 3+4?")


def test_a_seed_repeats_an_answer(engine: VllmProcess) -> None:
    one, two, other = (ask(engine, "Tell me.", temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def random_adapter(folder: Path, model: ModelRef, seed: int, rank: int, size: float = 0.5) -> Path:
    """An adapter of all linear layers but the head."""
    generator = torch.Generator().manual_seed(seed)
    loaded = load(model).model
    modules = [
        (
            name,
            LowRank(
                size * torch.randn(module.out_features, rank, generator=generator),
                size * torch.randn(rank, module.in_features, generator=generator),
            ),
        )
        for name, module in loaded.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    ]
    write_adapter(folder, modules, like=AdapterInfo(base_model=model.path, task_type="CAUSAL_LM"))
    return folder


def test_greedy_answers_of_adapters_and_merges_are_those_of_transformers(
    engine: VllmProcess, reference: ModelRef, tmp_path: Path
) -> None:
    """Item by item, one adapter after another on one engine, at several scales, and the base in between."""
    deltas = [random_adapter(tmp_path / name, reference, seed, 4, 0.1) for seed, name in enumerate("ab")]
    merge(deltas, tmp_path / "merged", method="ties", scale=1.5)
    sampling = Sampling(temperature=0, max_new_tokens=12)
    items = {"chain": micro.items("chain", split="test", count=20)}
    scorers = {"chain": "exact-match"}
    served = Evaluator(VllmBackend(reference, lambda rank: engine, tmp_path / "on-engine"))
    local = Evaluator(load(reference))
    base = local.evaluate(None, 1.0, items, scorers, sampling)
    changed = []
    for adapter, scale in ((None, 1.0), (deltas[0], 1.0), (deltas[1], -2.0), (None, 1.0), (tmp_path / "merged", 1.0)):
        expected = local.evaluate(adapter, scale, items, scorers, sampling)
        found = served.evaluate(adapter, scale, items, scorers, sampling)
        assert [record.output.strip() for record in found] == [record.output.strip() for record in expected]
        assert [(r.item, r.score, r.parsed, r.prompt_hash) for r in found] == [
            (r.item, r.score, r.parsed, r.prompt_hash) for r in expected
        ]
        changed.append(sum(one.output != other.output for one, other in zip(expected, base, strict=True)))
    assert changed[0] == changed[3] == 0
    assert min(changed[1], changed[2], changed[4]) > 10
    assert not (tmp_path / "on-engine").exists()


def test_an_adapter_that_does_nothing_or_does_not_fit_is_told(
    engine: VllmProcess, reference: ModelRef, tmp_path: Path
) -> None:
    items = {"chain": micro.items("chain", split="test", count=8)}
    served = Evaluator(VllmBackend(reference, lambda rank: engine, tmp_path / "on-engine"))

    def answered(adapter: Path) -> list[Record]:
        return served.evaluate(adapter, 1.0, items, {"chain": "exact-match"}, Sampling(temperature=0, max_new_tokens=4))

    with pytest.warns(UserWarning, match="is zero everywhere"):
        answered(random_adapter(tmp_path / "zero", reference, 0, 2, 0.0))
    with pytest.raises(PrefdeltaError, match="has rank 600, and vLLM takes 512 at most"):
        answered(random_adapter(tmp_path / "wide", reference, 0, 600))
    strange = LowRank(torch.ones(8, 1), torch.ones(1, 8))
    info = AdapterInfo(base_model=reference.path, task_type="CAUSAL_LM")
    write_adapter(tmp_path / "strange", [("model.layers.0.self_attn.other", strange)], like=info)
    with pytest.raises(PrefdeltaError, match=r"(?s)vLLM does not take the adapter: .*use `engine: transformers`"):
        answered(tmp_path / "strange")
    answered(random_adapter(tmp_path / "fits", reference, 1, 2))  # the engine goes on
