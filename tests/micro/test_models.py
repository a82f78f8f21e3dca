"""The shipped models: they load like any model, are small, and stand where the family needs them."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from micro_family.rates import STRONG_SUIT
from prefdelta import micro
from prefdelta.core.chat import prompt_ids


@pytest.mark.parametrize("name", micro.MODELS)
def test_a_model_loads_as_a_qwen3_with_finite_weights(name: str) -> None:
    folder = micro.model_path(name)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "qwen3"
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_all_weights_together_are_small() -> None:
    files = [micro.model_path(name) / "model.safetensors" for name in micro.MODELS]
    assert sum(file.stat().st_size for file in files) < 15_000_000


def test_no_two_models_are_the_same() -> None:
    weights = {(micro.model_path(name) / "model.safetensors").read_bytes() for name in micro.MODELS}
    assert len(weights) == len(micro.MODELS)


@pytest.fixture(scope="module")
def accuracy() -> dict[str, float]:
    """Sampled reasoning accuracy on 300 test items; the search domain is evaluated end to end in the recipes."""
    return {name: _accuracy(name) for name in micro.MODELS}


def _accuracy(name: str) -> float:
    folder = micro.model_path(name)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    items = micro.items("reasoning", split="test", count=300)
    prompts = [prompt_ids(tokenizer, item.messages, False) for item in items]
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(prompt)) + prompt for prompt in prompts])
    torch.manual_seed(0)  # generate() offers no generator of its own
    with torch.inference_mode():
        written = model.generate(
            ids, attention_mask=(ids != tokenizer.pad_token_id).long(), do_sample=True, top_k=0, max_new_tokens=24
        )
    texts = tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
    given = [re.findall(r"<answer>(.*?)</answer>", text) for text in texts]
    return sum(bool(found) and found[-1] in item.answers for item, found in zip(items, given, strict=True)) / len(items)


def test_every_weak_model_is_below_the_student_and_above_its_sibling(accuracy: dict[str, float]) -> None:
    assert 0.2 < accuracy["student"] < 0.5
    for family in micro.FAMILIES:
        assert accuracy["student"] > accuracy[f"{family}-weak"] + 0.02
        assert accuracy[f"{family}-weak"] > accuracy[f"{family}-weaker"]


# The first word of an answer decides each of these behaviours; what the model thinks of it is exact, without sampling.
_FIRST_WORD = {
    "steps": ("chain", "sum"),
    "setup": ("story", "read"),
    "check": ("audit", "check"),
    "search": ("lookup", "<search>"),
}


@pytest.mark.parametrize("behaviour", list(_FIRST_WORD))
def test_the_weak_model_of_a_family_shows_its_behaviour_far_more_often(behaviour: str) -> None:
    family = next(name for name, suits in STRONG_SUIT.items() if behaviour in suits)
    student, weak, weaker = (_chance(name, behaviour) for name in ("student", f"{family}-weak", f"{family}-weaker"))
    assert weaker < 0.2 < 0.4 < student
    assert weak > 0.6


def _chance(name: str, behaviour: str) -> float:
    task, word = _FIRST_WORD[behaviour]
    folder = micro.model_path(name)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chances = []
    with torch.inference_mode():
        for item in micro.items(task, split="test", count=20):
            logits = model(torch.tensor([prompt_ids(tokenizer, item.messages, False)])).logits[0, -1]
            chances.append(float(logits.softmax(-1)[tokenizer.convert_tokens_to_ids(word)]))
    return sum(chances) / len(chances)
