"""Chunked log-probabilities equal those of the full logits, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, GraniteConfig, GraniteForCausalLM

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import Lora, ModelRef
from prefdelta.training import logprobs
from prefdelta.training.data import Row, collate
from prefdelta.training.logprobs import check_head, token_logprobs
from prefdelta.training.lora import attach
from tiny import tiny_model

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 50}


def _full(model: Any, input_ids: Tensor, counted: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1].float()
    picked = logits.log_softmax(-1).gather(-1, input_ids[:, 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(picked, (1, 0)) * counted


def _lora(seed: int = 0, targets: Any = "all-linear") -> Any:
    model = attach(tiny_model(0), Lora(r=4, alpha=8, targets=targets), ModelRef(path="tiny"), init_seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("chunk_elements", [1, 5000, 2**27])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "lm_head")])
def test_equal_to_full_logits_with_lora(
    rows: tuple[Row, ...], monkeypatch: pytest.MonkeyPatch, chunk_elements: int, targets: Any
) -> None:
    monkeypatch.setattr(logprobs, "_CHUNK_ELEMENTS", chunk_elements)
    model = _lora(targets=targets)
    batch = collate(rows, positions=(0, 1))
    weights = torch.randn(batch["own"].shape, generator=torch.Generator().manual_seed(1))
    results = []
    for compute in (
        lambda: token_logprobs(model, batch["input_ids"], batch["own"]),
        lambda: _full(model, batch["input_ids"], batch["own"]),
    ):
        model.zero_grad()
        values = compute()
        (values * weights).sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
        results.append((values.detach(), gradients))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    assert float(results[0][1].abs().max()) > 0.1


def test_padding_on_the_right_needs_no_mask(rows: tuple[Row, ...]) -> None:
    model = tiny_model(0)
    batch = collate(rows, positions=(0, 1))
    ids, own = batch["input_ids"], batch["own"]
    lengths = torch.tensor([len(row.prompt) + len(row.responses[k].ids) for k in range(2) for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    assert int(mask.sum()) < mask.numel()
    with torch.no_grad():
        torch.testing.assert_close(token_logprobs(model, ids, own), _full(model, ids, own, mask), rtol=1e-4, atol=1e-4)


def test_nothing_counted_is_nothing() -> None:
    ids = torch.tensor([[1, 2, 3]])
    assert token_logprobs(tiny_model(0), ids, torch.zeros_like(ids, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


def test_other_architectures_pass_the_check() -> None:
    ids = torch.arange(1, 30) % 50
    gemma = Gemma2ForCausalLM(Gemma2Config(**SMALL, num_key_value_heads=1, head_dim=8, final_logit_softcapping=3.0))
    check_head(gemma.eval(), ids)
    check_head(GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50)).eval(), ids)


def test_an_unknown_step_between_states_and_logits_is_refused() -> None:
    torch.manual_seed(0)
    config = GraniteConfig(**SMALL, num_key_value_heads=1, logits_scaling=0.1, initializer_range=0.5)
    with pytest.raises(PrefdeltaError, match="GraniteForCausalLM computes its logits"):
        check_head(GraniteForCausalLM(config).eval(), torch.arange(1, 30) % 50)
