"""Loss and gradient equal TRL's on the same token ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prefdelta.recipe import Lora, ModelRef
from prefdelta.training.collator import Batch, collate
from prefdelta.training.data import Row, make_rows
from prefdelta.training.lora import attach
from prefdelta.training.losses import LOSSES
from prefdelta.training.reference import reference_logprobs
from prefdelta.training.trainer import counted_tokens, scores_of
from tiny import tiny_model, tiny_tokenizer

datasets = pytest.importorskip("datasets")
pytest.importorskip("trl")

BETA = 0.3


@pytest.fixture(scope="module")
def rows(make_pairs: Callable[..., Any]) -> tuple[Row, ...]:
    # TRL masks no observations, so the answers hold none.
    pairs = make_pairs(6, search=False)
    return make_rows(pairs, tiny_tokenizer(), thinking=False, max_length=512).rows


@pytest.fixture(scope="module")
def policy() -> Any:
    """A LoRA model that has moved away from its base."""
    model = attach(tiny_model(0), Lora(r=4, alpha=8), ModelRef(path="tiny"), init_seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def _mask(rows: tuple[Row, ...], width: int) -> Tensor:
    lengths = torch.tensor([len(row.prompt) + len(row.responses[k].ids) for k in range(2) for row in rows])
    return (torch.arange(width) < lengths[:, None]).long()


def _gradient(model: Any, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def _ours(name: str, model: Any, rows: tuple[Row, ...]) -> Tensor:
    loss = LOSSES[name]
    batch: Batch = collate(rows, responses=loss.responses)
    if loss.needs_reference:
        batch["reference"] = reference_logprobs(tiny_model(0), rows, cache=None, fingerprint="")
    tokens = int(counted_tokens(batch, loss)[: len(rows)].sum()) / len(rows)
    return loss.function(scores_of(model, batch, loss, tokens), BETA).loss.mean()


def _arguments(kind: Any, folder: Path) -> Any:
    return kind(
        output_dir=str(folder),
        beta=BETA,
        max_length=512,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
    )


def _questions() -> Any:
    line = {"prompt": "a", "chosen": "b", "rejected": "c"}
    return datasets.Dataset.from_list([line] * 2)


def test_dpo(policy: Any, rows: tuple[Row, ...], tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    trainer = DPOTrainer(
        model=tiny_model(0),
        args=_arguments(DPOConfig, tmp_path),
        train_dataset=_questions(),
        processing_class=tiny_tokenizer(),
        peft_config=policy.peft_config["default"],
    )
    theirs_model = trainer.model
    theirs_model.load_state_dict(policy.state_dict())
    batch = collate(rows, responses=2)
    inputs = {
        "input_ids": batch["input_ids"],
        "attention_mask": _mask(rows, batch["input_ids"].shape[1]),
        "completion_mask": batch["own"].long(),
    }
    theirs = trainer._compute_loss(theirs_model, inputs, return_outputs=False)
    ours = _ours("dpo", policy, rows)
    assert abs(ours.item() - 0.6931) > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(_gradient(policy, ours), _gradient(theirs_model, theirs), rtol=1e-4, atol=1e-5)


def test_orpo(policy: Any, rows: tuple[Row, ...], tmp_path: Path) -> None:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    trainer = ORPOTrainer(
        model=tiny_model(0),
        args=_arguments(ORPOConfig, tmp_path),
        train_dataset=_questions(),
        processing_class=tiny_tokenizer(),
        peft_config=policy.peft_config["default"],
    )
    theirs_model = trainer.model
    theirs_model.load_state_dict(policy.state_dict())
    batch = collate(rows, responses=2)
    mask = _mask(rows, batch["input_ids"].shape[1])
    labels = batch["input_ids"].masked_fill(~batch["own"], -100)
    inputs = {}
    for position, role in enumerate(("chosen", "rejected")):
        part = slice(position * len(rows), (position + 1) * len(rows))
        inputs[f"{role}_input_ids"] = batch["input_ids"][part]
        inputs[f"{role}_attention_mask"] = mask[part]
        inputs[f"{role}_labels"] = labels[part]
    theirs, metrics = trainer.get_batch_loss_metrics(theirs_model, inputs)
    ours = _ours("orpo-full", policy, rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(_gradient(policy, ours), _gradient(theirs_model, theirs), rtol=1e-4, atol=1e-5)

    # LLaMA-Factory's form has the same odds term, and the chosen responses' own mean log-probability beside it.
    expected = -metrics["logps/chosen"] + (theirs.item() - metrics["nll_loss"])
    assert _ours("orpo", policy, rows).item() == pytest.approx(expected, abs=1e-5)
