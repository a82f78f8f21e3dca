"""How one adapter is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from prefdelta.core.config import Config, Named
from prefdelta.recipe.objectives import unknown_keys_as_options


class Lora(Config):
    """The adapter's shape. ``shared_init`` gives every delta the same random A (it matters to GAM).

    ``dropout`` acts on the input of the LoRA layers while training, as it says; the base's own dropout is off.
    """

    r: int = Field(default=64, gt=0)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    shared_init: bool = False


class Training(Config):
    """How one adapter is trained. ``batch_size`` is the number of rows per optimiser step.

    ``objective`` is a name, or a name with options: ``{name: dpo, options: {beta: 0.1}}``. A key of this section that
    is none of its own is an option of the objective, so that ``objective: dpo`` and ``beta: 0.1`` say the same. Which
    objectives and options there are is known to :mod:`prefdelta.training.objectives`, which checks them when the plan
    is made.

    ``together`` trains the deltas of a domain over one base in memory; each comes out as alone, to rounding.
    """

    objective: Named = Named(name="dpo")
    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=128, gt=0)
    micro_batch_size: int = Field(default=4, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=8192, gt=0)
    gradient_checkpointing: bool = False
    quantization: Literal["nf4"] | None = None
    checkpoint_steps: int = Field(default=20, gt=0)
    tracker: Literal["tensorboard", "wandb", "trackio"] | None = None
    together: bool = False
    lora: Lora = Lora()

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
