"""How one adapter is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.recipe.config import Config

Objective = Literal["dpo", "orpo", "sft"]


class Lora(Config):
    """The adapter's shape. ``shared_init`` gives every delta the same random A (it matters to GAM)."""

    r: int = Field(default=64, gt=0)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    shared_init: bool = False


class Training(Config):
    """How one adapter is trained. ``batch_size`` is the number of pairs per optimiser step."""

    objective: Objective = "dpo"
    beta: float = Field(default=0.1, gt=0)
    nll_scope: Literal["completion", "full"] = "completion"
    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=128, gt=0)
    micro_batch_size: int = Field(default=4, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=8192, gt=0)
    gradient_checkpointing: bool = False
    checkpoint_steps: int = Field(default=20, gt=0)
    lora: Lora = Lora()
