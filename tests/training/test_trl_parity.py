"""Loss and gradient equal TRL's on the same token ids, for every objective that TRL has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prefdelta.recipe import Lora, ModelRef, Training
from prefdelta.training.data import Row, collate, make_rows
from prefdelta.training.lora import attach
from prefdelta.training.objectives import loss_of
from prefdelta.training.reference import reference_logprobs
from prefdelta.training.scoring import Steps, counted_tokens, scores_of
from tiny import tiny_model, tiny_tokenizer
from training_runs import make_pairs

datasets = pytest.importorskip("datasets")
pytest.importorskip("trl")


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
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


def _ours(objective: Any, model: Any, rows: tuple[Row, ...], **options: Any) -> Tensor:
    loss = loss_of(Training(objective=objective, **options))
    reference = reference_logprobs(tiny_model(0), rows, cache=None, fingerprint="") if loss.needs_reference else None
    (batch,) = Steps(rows, reference, [[list(range(len(rows)))]], loss.positions(2))[0]
    tokens = int(counted_tokens(batch, loss)[: len(rows)].sum()) / len(rows)
    return loss(scores_of(model, batch, loss, tokens)).loss.mean()


def _trainer(kind: Any, arguments: Any, policy: Any, folder: Path, **more: Any) -> Any:
    usual = {"output_dir": str(folder), "max_length": 512, "report_to": [], "use_cpu": True, "bf16": False}
    line = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = kind(
        model=tiny_model(0),
        args=arguments(**usual, gradient_checkpointing=False, per_device_train_batch_size=2, **more),
        train_dataset=datasets.Dataset.from_list([line] * 2),
        processing_class=tiny_tokenizer(),
        peft_config=policy.peft_config["default"],
    )
    trainer.model.load_state_dict(policy.state_dict())
    return trainer


def _assert_equal(policy: Any, ours: Tensor, their_model: Any, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(_gradient(policy, ours), _gradient(their_model, theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs", "beta", "start"),
    [
        ("dpo", "sigmoid", 0.3, 0.6931),
        ("dpo-norm", "sigmoid_norm", 5.0, 0.6931),
        ("ipo", "ipo", 0.3, 2.7778),
        ("apo-zero", "apo_zero", 0.3, 1.0),
        ("apo-down", "apo_down", 0.3, 1.0),
        ("sft", "sft", None, None),
    ],
)
def test_objectives_of_the_dpo_trainer(
    policy: Any, rows: tuple[Row, ...], tmp_path: Path, ours: str, theirs: str, beta: float | None, start: float | None
) -> None:
    from trl import DPOConfig, DPOTrainer

    trainer = _trainer(DPOTrainer, DPOConfig, policy, tmp_path, loss_type=[theirs], beta=beta or 0.1)
    batch = collate(rows, positions=(0, 1))
    inputs = {
        "input_ids": batch["input_ids"],
        "attention_mask": _mask(rows, batch["input_ids"].shape[1]),
        "completion_mask": batch["own"].long(),
    }
    expected = trainer._compute_loss(trainer.model, inputs, return_outputs=False)
    found = _ours(ours, policy, rows, **({"beta": beta} if beta else {}))
    if start is not None:
        assert abs(found.item() - start) > 1e-3
    _assert_equal(policy, found, trainer.model, expected)


def _parts(rows: tuple[Row, ...]) -> dict[str, Tensor]:
    batch = collate(rows, positions=(0, 1))
    mask = _mask(rows, batch["input_ids"].shape[1])
    labels = batch["input_ids"].masked_fill(~batch["own"], -100)
    inputs = {}
    for position, role in enumerate(("chosen", "rejected")):
        part = slice(position * len(rows), (position + 1) * len(rows))
        inputs[f"{role}_input_ids"] = batch["input_ids"][part]
        inputs[f"{role}_attention_mask"] = mask[part]
        inputs[f"{role}_labels"] = labels[part]
    return inputs


def test_simpo(policy: Any, rows: tuple[Row, ...], tmp_path: Path) -> None:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    more = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.7, "cpo_alpha": 0.0}
    trainer = _trainer(CPOTrainer, CPOConfig, policy, tmp_path, **more)
    expected, _ = trainer.get_batch_loss_metrics(trainer.model, _parts(rows))
    _assert_equal(policy, _ours("simpo", policy, rows, beta=2.0, gamma=0.7), trainer.model, expected)


def test_orpo(policy: Any, rows: tuple[Row, ...], tmp_path: Path) -> None:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    trainer = _trainer(ORPOTrainer, ORPOConfig, policy, tmp_path, beta=0.3)
    expected, metrics = trainer.get_batch_loss_metrics(trainer.model, _parts(rows))
    _assert_equal(policy, _ours("orpo", policy, rows, beta=0.3, nll_scope="full"), trainer.model, expected)

    # LLaMA-Factory's form has the same odds term, and the chosen responses' own mean log-probability beside it.
    completion = -metrics["logps/chosen"] + (expected.item() - metrics["nll_loss"])
    assert _ours("orpo", policy, rows, beta=0.3).item() == pytest.approx(completion, abs=1e-5)
