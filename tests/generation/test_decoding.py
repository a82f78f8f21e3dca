"""The decoding loop against transformers' own generate, and its random numbers against the distributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import GenerationConfig, Qwen3ForCausalLM

from prefdelta.generation.decoding import Randomness, decode_batch, draw, warpers
from prefdelta.recipe import Sampling
from tiny import tiny_model

GREEDY = Sampling(temperature=0, max_new_tokens=12)
END = 7


@pytest.fixture(scope="module")
def model() -> Qwen3ForCausalLM:
    return tiny_model(seed=1)


def _prompts(count: int, longest: int = 9) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 250, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def _ends(written: Sequence[int]) -> bool:
    return written[-1] % 16 == END


def _decode(model: Qwen3ForCausalLM, prompts: list[list[int]], sampling: Sampling) -> list[list[int]]:
    numbers = [Randomness().uniforms(len(prompt), 0, 12) for prompt in prompts]
    return decode_batch(model, prompts, numbers, [12] * len(prompts), _ends, sampling)


def test_greedy_equals_transformers_generate(model: Qwen3ForCausalLM) -> None:
    config = GenerationConfig(
        do_sample=False, max_new_tokens=12, eos_token_id=list(range(END, 269, 16)), pad_token_id=0, use_cache=True
    )
    prompts = _prompts(8)
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        expected.append(whole[0, len(prompt) :].tolist())
    assert _decode(model, prompts, GREEDY) == expected
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 2  # rows left the batch at different times


def test_a_row_does_not_depend_on_its_batch(model: Qwen3ForCausalLM) -> None:
    prompts = _prompts(7)
    for sampling in (GREEDY, Sampling(temperature=1.0), Sampling(temperature=0.7, top_k=20, top_p=0.9)):
        together = _decode(model, prompts, sampling)
        alone = [_decode(model, [prompt], sampling)[0] for prompt in prompts]
        assert together == alone


def test_budgets_are_kept_per_row(model: Qwen3ForCausalLM) -> None:
    prompts = _prompts(4)
    numbers = [np.full(budget, 0.5) for budget in (1, 2, 3, 9)]
    written = decode_batch(model, prompts, numbers, [1, 2, 3, 9], lambda _: False, Sampling(temperature=1))
    assert [len(row) for row in written] == [1, 2, 3, 9]


def test_drawn_tokens_follow_the_softmax(model: Qwen3ForCausalLM) -> None:
    """Chi-square on the first token of 20,000 answers, over the tokens expected at least five times."""
    sampling = Sampling(temperature=0.8)
    with torch.inference_mode():
        scores = model(torch.tensor([[3, 1, 4]])).logits[:, -1]
    probability = (scores.double() / 0.8).softmax(-1)[0].numpy()
    randomness = Randomness()
    uniforms = torch.tensor([randomness.uniforms(seed, 0, 1)[0] for seed in range(20_000)])
    drawn = draw(warpers(sampling)(None, scores).expand(20_000, -1), uniforms)
    seen = np.bincount(drawn.numpy(), minlength=len(probability))
    common = probability * 20_000 >= 5
    expected = np.append(probability[common], probability[~common].sum()) * 20_000
    observed = np.append(seen[common], seen[~common].sum())
    assert common.sum() > 20
    assert chisquare(observed, expected).pvalue > 0.001


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=9), st.floats(0, 1, exclude_max=True), st.data())
def test_a_ruled_out_token_is_never_drawn(scores: list[float], uniform: float, data: st.DataObject) -> None:
    ruled_out = data.draw(st.sets(st.integers(0, len(scores) - 1), max_size=len(scores) - 1))
    row = torch.tensor([[-torch.inf if place in ruled_out else score for place, score in enumerate(scores)]])
    for u in (uniform, 0.0, float(np.nextafter(1, 0))):
        assert int(draw(row, torch.tensor([u], dtype=torch.float64))) not in ruled_out


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    scores = torch.log(torch.tensor([[0.4, 0.1, 0.3, 0.2]]))
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]

    def shares(**settings: float) -> list[float]:
        drawn = draw(warpers(Sampling(temperature=1, **settings))(None, scores).expand(1000, -1), grid)
        return (torch.bincount(drawn, minlength=4) / 1000).tolist()

    assert shares() == pytest.approx([0.4, 0.1, 0.3, 0.2], abs=0.002)
    assert shares(top_k=2) == pytest.approx([4 / 7, 0, 3 / 7, 0], abs=0.002)
    assert shares(top_p=0.85) == pytest.approx([4 / 9, 0, 3 / 9, 2 / 9], abs=0.002)


def test_random_numbers_are_uniform_and_have_an_address() -> None:
    randomness = Randomness()
    numbers = np.concatenate([randomness.uniforms(seed, turn, 50) for seed in range(100) for turn in range(4)])
    assert len(np.unique(numbers)) == len(numbers)
    assert kstest(numbers, "uniform").pvalue > 0.001
    again = Randomness().uniforms(42, 3, 50)
    assert np.array_equal(randomness.uniforms(42, 3, 20), again[:20])
    assert np.array_equal(again, np.random.Generator(np.random.Philox(key=42, counter=3 << 192)).random(50))
