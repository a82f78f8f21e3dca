"""The evaluator on a tiny random model: what it applies, what it leaves behind, what it can resume."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from lora_fixtures import write_lora
from prefdelta.adapters.applied import applied
from prefdelta.agent import Environment
from prefdelta.agent.retrieval import Bm25Index
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Document, Item, Record, Sample, read_rows
from prefdelta.core.shard import Shard
from prefdelta.evaluation import evaluator as module
from prefdelta.evaluation import in_memory
from prefdelta.evaluation.evaluator import Evaluator, Job
from prefdelta.evaluation.scoring import Score
from prefdelta.recipe import Sampling, Search
from tiny import tiny_model, tiny_tokenizer

SAMPLING = Sampling(temperature=1.0, max_new_tokens=6, batch_size=2)
SCORERS = {"sums": "exact-match", "facts": "token-f1"}
ITEMS = {
    "sums": [Item(f"s{n}", "sums", ({"role": "user", "content": f"{n}+1?"},), (str(n + 1),)) for n in range(19)],
    "facts": [Item(f"f{n}", "facts", ({"role": "user", "content": f"who is {n}?"},), ("an ant",)) for n in range(17)],
}


def loaded(dtype: torch.dtype = torch.float32) -> LoadedModel:
    return LoadedModel(tiny_model().to(dtype), tiny_tokenizer(), thinking=False)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("adapter") / "a", tiny_model())


def logits(model: LoadedModel) -> torch.Tensor:
    ids = torch.arange(3, 23)[None]
    with torch.inference_mode():
        return torch.as_tensor(model.model(input_ids=ids).logits)


def state(model: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_folding_and_branch_are_the_same_model(adapter: Path, scale: float) -> None:
    base = loaded()
    plain = logits(base)
    with applied(base, adapter, scale, fold=True) as model:
        folded = logits(model)
    with applied(base, adapter, scale, fold=False) as model:
        branched = logits(model)
    assert (folded - plain).abs().max() > 0.1
    torch.testing.assert_close(folded, branched, rtol=1e-4, atol=1e-4)


def test_scale_multiplies_the_update(adapter: Path, tmp_path: Path) -> None:
    """At λ = 2 an adapter is the adapter whose B is twice as large."""
    doubled = write_lora(tmp_path / "doubled", tiny_model())
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({n: t * 2 if "lora_B" in n else t for n, t in weights.items()}, doubled / "adapter_model.safetensors")
    base = loaded()
    with applied(base, adapter, 2.0) as model:
        scaled = logits(model)
    with applied(base, doubled, 1.0) as model:
        torch.testing.assert_close(logits(model), scaled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "fold"), [(torch.float32, True), (torch.float32, False), (torch.bfloat16, False)])
def test_the_base_comes_back_bit_for_bit(adapter: Path, dtype: torch.dtype, fold: bool) -> None:
    base = loaded(dtype)
    before, names, flags = state(base), dict(base.model.named_modules()).keys(), base.model.lm_head.weight.requires_grad
    with pytest.raises(RuntimeError, match="interrupted"), applied(base, adapter, 1.7, fold=fold):
        raise RuntimeError("interrupted")
    after = state(base)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert dict(base.model.named_modules()).keys() == names
    assert base.model.lm_head.weight.requires_grad == flags


def test_a_bfloat16_base_is_not_folded(adapter: Path) -> None:
    base = loaded(torch.bfloat16)
    before = state(base)
    with applied(base, adapter, 1.0):
        assert all(torch.equal(now, before[name]) for name, now in state(base).items())
    exact = loaded()
    before = state(exact)
    with applied(exact, adapter, 1.0):
        assert not all(torch.equal(now, before[name]) for name, now in state(exact).items())


def test_conv1d_is_folded_the_right_way_round(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=len(tiny_tokenizer()), n_embd=32, n_layer=2, n_head=2, n_positions=64)
    torch.manual_seed(0)
    base = LoadedModel(GPT2LMHeadModel(config).eval(), tiny_tokenizer(), thinking=False)
    made = GPT2LMHeadModel(config)
    folder = tmp_path / "gpt2"
    lora = LoraConfig(r=2, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    get_peft_model(made, lora).save_pretrained(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(0)
    save_file(
        {name: 0.3 * torch.randn(t.shape, generator=generator) for name, t in weights.items()},
        folder / "adapter_model.safetensors",
    )
    with applied(base, folder, 1.0, fold=True) as model:
        folded = logits(model)
    with applied(base, folder, 1.0, fold=False) as model:
        torch.testing.assert_close(logits(model), folded, rtol=1e-4, atol=1e-4)


def test_records_are_scored_answers_in_order() -> None:
    records = Evaluator(loaded()).evaluate(None, 1.0, ITEMS, SCORERS, SAMPLING)
    assert [(record.task, record.item) for record in records] == [
        (task, item.id) for task, items in ITEMS.items() for item in items
    ]
    assert all(0 <= record.score <= 1 and record.tokens > 0 for record in records)
    assert all("em" in record.extra for record in records if record.task == "facts")


def test_a_variant_answers_with_the_same_random_numbers(tmp_path: Path, adapter: Path) -> None:
    """A vanishing update changes no answer; another seed changes many. So differences are the adapter's own."""
    tiny = write_lora(tmp_path / "tiny", tiny_model(), size=1e-4)
    evaluator = Evaluator(loaded())
    base = evaluator.evaluate(None, 1.0, ITEMS, SCORERS, SAMPLING)
    assert evaluator.evaluate(tiny, 1.0, ITEMS, SCORERS, SAMPLING) == base
    assert evaluator.evaluate(adapter, 0.0, ITEMS, SCORERS, SAMPLING) == base
    other = evaluator.evaluate(None, 1.0, ITEMS, SCORERS, SAMPLING, seed=1)
    assert sum(a.output != b.output for a, b in zip(base, other, strict=True)) > len(base) / 2
    changed = evaluator.evaluate(adapter, 1.0, ITEMS, SCORERS, SAMPLING)
    assert sum(a.output != b.output for a, b in zip(base, changed, strict=True)) > len(base) / 2
    assert evaluator.evaluate(None, 1.0, ITEMS, SCORERS, SAMPLING) == base  # nothing was left behind


def test_searching_and_behaviours_reach_the_record() -> None:
    def behaviours(item: Item, sample: Sample) -> dict[str, bool]:
        return {"long": sample.tokens > 3}

    search = Search(corpus="x.jsonl", top_k=1, max_turns=1)
    environment = Environment(Bm25Index([Document("d", "an ant")], top_k=1), search)
    records = Evaluator(loaded(), behaviours=behaviours).evaluate(
        None, 1.0, {"facts": ITEMS["facts"]}, SCORERS, SAMPLING, environment
    )
    assert [record.extra["behaviour:long"] for record in records] == [float(record.tokens > 3) for record in records]


def test_a_scorer_that_gives_no_number_is_told_with_its_item() -> None:
    class Odd:
        name = "odd"

        def __call__(self, items: Sequence[Item], samples: Sequence[Sample]) -> list[Score]:
            return [Score(float("nan"), "x") for _ in items]

    with pytest.raises(PrefdeltaError, match=r"scorer 'odd' cannot be used: for item .* of 'sums' its score is nan"):
        Evaluator(loaded()).evaluate(None, 1.0, {"sums": ITEMS["sums"][:2]}, {"sums": Odd()}, SAMPLING)


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = Evaluator(loaded())
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    seen: list[tuple[int, int]] = []
    evaluator.evaluate_to_folder(
        whole, adapter, 1.0, ITEMS, SCORERS, SAMPLING, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(8, 36), (16, 36), (24, 36), (32, 36), (36, 36)]

    def killed(done: int, total: int) -> None:
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate_to_folder(broken, adapter, 1.0, ITEMS, SCORERS, SAMPLING, progress=killed)
    assert len((broken / "records.kept-rows").read_text().splitlines()) == 1

    scored: list[str] = []
    original = module._record_of

    def counting(job: Job, *rest: Any) -> Record:
        scored.append(job.item.id)
        return original(job, *rest)

    monkeypatch.setattr(module, "_record_of", counting)
    evaluator.evaluate_to_folder(broken, adapter, 1.0, ITEMS, SCORERS, SAMPLING)
    assert len(scored) == 20
    assert (broken / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    assert read_rows(whole / "records.jsonl", Record) == evaluator.evaluate(adapter, 1.0, ITEMS, SCORERS, SAMPLING)


def test_shards_in_order_are_the_whole(tmp_path: Path, adapter: Path) -> None:
    evaluator = Evaluator(loaded())
    evaluator.evaluate_to_folder(tmp_path / "whole", adapter, 1.0, ITEMS, SCORERS, SAMPLING)
    parts = []
    for number in range(4):
        evaluator.evaluate_to_folder(
            tmp_path / str(number), adapter, 1.0, ITEMS, SCORERS, SAMPLING, shard=Shard(number, 4)
        )
        parts.append((tmp_path / str(number) / "records.jsonl").read_bytes())
    assert b"".join(parts) == (tmp_path / "whole" / "records.jsonl").read_bytes()
    assert sorted(map(bool, parts)) == [False, True, True, True]  # there are three groups


@pytest.mark.parametrize("place", [10, 400, -2])
def test_what_was_damaged_since_a_kill_is_evaluated_again(tmp_path: Path, place: int) -> None:
    evaluator = Evaluator(loaded())
    folder = tmp_path / "out"
    evaluator.evaluate_to_folder(folder, None, 1.0, ITEMS, SCORERS, SAMPLING)
    written = (folder / "records.jsonl").read_bytes()
    log = bytearray((folder / "records.kept-rows").read_bytes())
    log[place] ^= 1
    (folder / "records.kept-rows").write_bytes(log)
    (folder / "records.jsonl").write_bytes(written[:-10])
    evaluator.evaluate_to_folder(folder, None, 1.0, ITEMS, SCORERS, SAMPLING)
    assert (folder / "records.jsonl").read_bytes() == written


def test_an_empty_adapter_warns_and_an_ignored_one_is_an_error(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = write_lora(tmp_path / "empty", tiny_model(), size=0.0)
    with pytest.warns(UserWarning, match="zero everywhere"):
        Evaluator(loaded()).evaluate(empty, 1.0, ITEMS, SCORERS, SAMPLING)
    monkeypatch.setattr(in_memory, "applied", lambda model, adapter, scale: nullcontext(model))
    with pytest.raises(PrefdeltaError, match="was not applied"):
        Evaluator(loaded()).evaluate(adapter, 1.0, ITEMS, SCORERS, SAMPLING)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    wide = write_lora(tmp_path / "wide", tiny_model(hidden=64))
    with pytest.raises(PrefdeltaError, match="but this base model has it as"), applied(loaded(), wide, 1.0):
        pass
    config = GPT2Config(vocab_size=len(tiny_tokenizer()), n_embd=32, n_layer=1, n_head=2, n_positions=64)
    other = LoadedModel(GPT2LMHeadModel(config), tiny_tokenizer(), thinking=False)
    with pytest.raises(PrefdeltaError, match="which this base model lacks"), applied(other, wide, 1.0):
        pass
