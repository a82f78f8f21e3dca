"""Hours, money and memory of a plan: by hand where that can be done, and against a graph that is really built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import linear_dimensions, model_shape
from prefdelta.experiments.estimate import model_size, training_memory
from prefdelta.experiments.gpus import Gpu, gpu_named
from prefdelta.experiments.hours import seconds, stage_hours
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.load import Passed, Sampled, Text, text_of
from prefdelta.recipe import ModelRef, Prompts, Sampling, Search, Training, load_recipe
from whole_runs import command

RECIPES = Path(__file__).parents[2] / "recipes"
GPU = Gpu(memory=80, bandwidth=2, tflops=500, price=2, training=0.5, reading=0.5, writing=0.5, filled=0.5)
MODEL = ModelRef(path="x/y-10B", dtype="bfloat16")
FAST = ModelRef(path="x/y-10B", dtype="bfloat16", engine="vllm")


def test_a_training_is_its_products_over_what_the_gpu_reaches() -> None:
    rows = Passed(MODEL, 1000, Text(asked=100, written=800), longest=400, passes=4, trained=True)
    assert seconds(rows, GPU, 0.5) == pytest.approx(2 * 1e10 * 1000 * 400 * 4 / 250e12)  # 500 tokens, cut at 400


def test_writing_is_bound_by_memory_first_and_by_products_then() -> None:
    few = Sampled(FAST, 8, Text(asked=0, written=2000), batch=1)
    size = model_size(FAST)
    assert size is not None
    moved = 2e10 + 8 * 500 * size.cache  # the weights, and half of each answer's 1,000 tokens
    assert seconds(few, GPU, 0.5) == pytest.approx(1000 * moved / 1e12)
    slow_at_sums = GPU.model_copy(update={"tflops": 0.5})
    assert seconds(few, slow_at_sums, 0.5) == pytest.approx(1000 * 2 * 1e10 * 8 / 0.25e12)


def test_a_batch_of_transformers_waits_for_its_longest_answer_and_for_python() -> None:
    text = Text(asked=0, written=2000)
    small = ModelRef(path="x/y-100M", dtype="bfloat16")
    assert seconds(Sampled(small, 64, text, batch=32), GPU, 0.25) == pytest.approx(2 * 1000 * 0.03)
    assert seconds(Sampled(MODEL, 640, text, 32), GPU, 0.25) > 4 * seconds(Sampled(FAST, 640, text, 32), GPU, 0.25)


def test_what_a_search_shows_is_read_and_not_written() -> None:
    prompts = Prompts(source="x", count=1, template="{question}" + "x" * 390)
    sampling = Sampling(max_new_tokens=300)
    assert text_of(prompts, sampling, None) == Text(200, 0, 300)
    search = Search(corpus="x", top_k=2, max_turns=3, passage_tokens=50, turn_tokens=200)
    assert text_of(prompts, sampling, search) == Text(200, 3 * 2 * 50, 4 * 200)


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_activations_are_those_of_a_graph(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 16-bit Llama of full width and two layers, built without memory: what its forward pass leaves behind."""
    config = LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=2, num_attention_heads=16, num_key_value_heads=4
    )
    tokens = torch.zeros((2, 512), dtype=torch.long, device="meta")
    with torch.device("meta"):
        base = LlamaForCausalLM(config).to(torch.bfloat16)
    monkeypatch.setattr("prefdelta.core.models._skeleton", lambda ref: base)
    ref = ModelRef(path="micro:student", dtype="bfloat16")
    dimensions, shape = linear_dimensions(ref), model_shape(ref)
    assert (shape.layers, shape.width, shape.kept) == (2, 2048, 512)
    settings = {"micro_batch_size": 1, "max_length": 512, "lora": {"r": 16, "dropout": dropout}}
    need = training_memory(ref, Training.model_validate(settings))
    less = training_memory(ref, Training.model_validate({**settings, "gradient_checkpointing": True}))
    assert need is not None
    assert less is not None
    assert less.activations < need.activations
    estimate = need.activations - 3 * 2**27
    assert estimate == 1024 * dimensions * (8 if dropout else 6)
    lora = LoraConfig(r=16, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora).train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    left: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        left[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    mask = torch.zeros((2, 1, 512, 512), dtype=torch.bool, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = base.model(input_ids=tokens, attention_mask=mask, use_cache=False)
    del kept
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    measured = sum(storage.nbytes() for key, storage in left.items() if key not in weights)
    assert measured == pytest.approx(estimate, rel=0.2)


def test_a_plan_tells_hours_of_every_stage_that_asks_models(tmp_path: Path) -> None:
    recipe = RECIPES / "pda-reasoning-qwen3-8b.yaml"
    plan = plan_for(load_recipe(recipe), tmp_path)
    hours = stage_hours(plan.units, gpu_named("h100"))
    assert list(hours) == ["responses", "adapters", "validation", "test", "guard"]
    assert all(0 < stage.longest <= stage.likely <= stage.most for stage in hours.values())
    fewer = plan_for(load_recipe(recipe, ["domains.reasoning.prompts.count=1000"]), tmp_path)
    starts = 6 / 60  # of six models, a minute each
    found = stage_hours(fewer.units, gpu_named("h100"))["responses"].likely
    assert found - starts == pytest.approx((hours["responses"].likely - starts) * 1000 / 7473)


def test_a_gpu_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("like: L40S\nprice: 0.5\ntraining: 0.42\n")
    assert gpu_named(str(own)) == gpu_named("l40s").model_copy(update={"price": 0.5, "training": 0.42})
    for content, message in (
        ("like: h101", r"mine\.yaml: no GPU is called 'h101'; did you mean 'h100'\?"),
        ("like: h100\nprise: 1", r"mine\.yaml: unknown key 'prise'; did you mean 'price'\?"),
        ("- h100", r"mine\.yaml holds no keys of a GPU"),
    ):
        own.write_text(content)
        with pytest.raises(PrefdeltaError, match=message):
            gpu_named(str(own))
    with pytest.raises(PrefdeltaError, match=r"cannot read the file .*none\.yaml of a GPU: No such file"):
        gpu_named(str(tmp_path / "none.yaml"))


def test_the_command_prints_money_and_refuses_what_cannot_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        command("run", *words)
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    reasoning = str(RECIPES / "pda-reasoning-qwen3-8b.yaml")
    text = told(reasoning, "--dry-run", "--gpu", "a100")
    assert "on a100 at 1.39 an hour" in text
    assert "longest stage: adapters" in text
    assert "sizes are by name for 7 models" in text
    assert "runs nothing; give it with --dry-run" in told(reasoning, "--gpu", "a100")
    suite = str(RECIPES / "suite-clip-vit-b-32.yaml")
    assert "for recipes of kind aggregation and fusion only" in told(suite, "--dry-run", "--gpu", "h100")
