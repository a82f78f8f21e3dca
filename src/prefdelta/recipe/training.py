"""How one adapter is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from prefdelta.core.config import Config, Named
from prefdelta.recipe.objectives import unknown_keys_as_options


class Lora(Config):
    """The adapter's shape. ``shared_init`` gives every delta the same random A (it matters to GAM).

    The base's own dropout is off.
    """

    r: int = Field(default=64, gt=0, description="The adapter's rank.")
    alpha: float = Field(default=128, gt=0, description="The update is scaled by alpha / r.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="On the input of the adapter's layers, in training.")
    targets: tuple[str, ...] | Literal["all-linear"] = Field(
        default="all-linear",
        description=(
            "`all-linear`: every linear layer but the output head; or a list of ends of module names, such as "
            "`[q_proj, v_proj]`."
        ),
    )
    shared_init: bool = Field(
        default=False, description="All deltas of a seed begin with the same random A, which GAM's result depends on."
    )


class Training(Config):
    """How one adapter is trained. ``batch_size`` is the number of rows per optimiser step.

    Which objectives and options there are is known to :mod:`prefdelta.training.objectives`, which checks them when the
    is made.
    """

    objective: Named = Field(
        default=Named(name="dpo"),
        description=(
            "What is minimised, by its name or with options: `{name: dpo, options: {beta: 0.05}}`. Options may also be "
            "given as keys of this section: `objective: dpo` and `beta: 0.05`. One that the objective does not have is "
            "refused when the plan is made."
        ),
    )
    learning_rate: float = Field(
        default=1e-5, gt=0, description="The peak, after a linear warm-up; then cosine decay to zero."
    )
    epochs: float = Field(default=1.0, gt=0, description="Times through the pairs.")
    batch_size: int = Field(
        default=128, gt=0, description="Pairs (or other rows) per optimiser step, over all processes."
    )
    micro_batch_size: int = Field(
        default=4,
        gt=0,
        description="Pairs held in memory at once (with `together`, of all deltas); changes memory and speed.",
    )
    warmup_ratio: float = Field(
        default=0.1, ge=0, le=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to this norm.")
    max_length: int = Field(
        default=8192,
        gt=0,
        description=(
            "Tokens of prompt and answer; longer answers are cut, pairs whose prompt leaves no room are dropped and "
            "counted."
        ),
    )
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations: less memory, more time.")
    quantization: Literal["nf4"] | None = Field(default=None, description="`nf4`: the frozen base in 4 bits (QLoRA).")
    checkpoint_steps: int = Field(
        default=20, gt=0, description="Optimiser steps between checkpoints; a killed training continues from the last."
    )
    tracker: Literal["tensorboard", "wandb", "trackio"] | None = Field(
        default=None, description="Where progress is reported to, beside `metrics.jsonl`, which is always written."
    )
    together: bool = Field(
        default=False,
        description=(
            "Train the deltas of a domain over one base in memory; each comes out as alone, to rounding. Not in a "
            "fusion."
        ),
    )
    lora: Lora = Field(default=Lora(), description="The adapter's shape.")

    @model_validator(mode="before")
    @classmethod
    def _unknown_keys_are_options(cls, given: Any) -> Any:
        return unknown_keys_as_options(cls, given)

    @model_validator(mode="after")
    def _each_comes_out_as_alone(self) -> Training:
        if self.together and self.lora.dropout > 0:
            raise ValueError(
                "together gives every delta what it gets alone, which lora.dropout does not allow, as it drops other "
                "places in other batches; set lora.dropout to 0, or together to false"
            )
        if self.together and self.tracker is not None:
            raise ValueError(
                f"tracker {self.tracker!r} follows one training, and together trains several at once; remove one of "
                "the two keys"
            )
        return self

    @property
    def settled(self) -> Training:
        """What decides the adapter: everything but whom the progress is reported to."""
        return self.model_copy(update={"tracker": None})

    def with_objective(self, name: str, options: Mapping[str, Any] | None = None) -> Training:
        """The same training with another objective, at that objective's default options but for those given."""
        return self.model_copy(update={"objective": Named(name=name, options=dict(options or {}))})
