"""How one adapter is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from prefdelta.recipe.config import Config

Objective = Literal[
    "dpo",
    "dpo-norm",
    "ipo",
    "apo-zero",
    "apo-down",
    "simpo",
    "orpo",
    "wrpo",
    "wrpo-norm",
    "wrpo-ipo",
    "wrpo-simpo",
    "wrpo-two-loss",
    "sft",
]

_SMOOTHED = {"label_smoothing": 0.0}
_PROGRESSIVE = {"alpha": 0.1, "alpha_schedule": "linear"}
OBJECTIVE_OPTIONS: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.1, **_SMOOTHED},
    "dpo-norm": {"beta": 5.0, **_SMOOTHED},
    "ipo": {"beta": 0.1},
    "apo-zero": {"beta": 0.1},
    "apo-down": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "orpo": {"beta": 0.1, "nll_scope": "completion"},
    "wrpo": {"beta": 0.01, **_PROGRESSIVE, **_SMOOTHED},
    "wrpo-norm": {"beta": 10.0, **_PROGRESSIVE, **_SMOOTHED},
    "wrpo-ipo": {"beta": 0.1, **_PROGRESSIVE},
    "wrpo-simpo": {"beta": 2.0, "gamma": 1.0, **_PROGRESSIVE},
    "wrpo-two-loss": {"beta": 0.01, **_SMOOTHED},
    "sft": {},
}
"""The options of each objective and their defaults; what they mean is said in :mod:`prefdelta.training.objectives`."""

_OPTION_NAMES = sorted({name for options in OBJECTIVE_OPTIONS.values() for name in options})


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

    ``beta`` to ``alpha_schedule`` are the objective's options: one that is not given takes the objective's own
    default (:data:`OBJECTIVE_OPTIONS`), and one that the objective does not have is an error.
    """

    objective: Objective = "dpo"
    beta: float | None = Field(default=None, gt=0)
    gamma: float | None = Field(default=None, ge=0)
    label_smoothing: float | None = Field(default=None, ge=0, lt=0.5)
    nll_scope: Literal["completion", "full"] | None = None
    alpha: float | None = Field(default=None, ge=0, le=1)
    alpha_schedule: Literal["linear", "constant"] | None = None
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
    lora: Lora = Lora()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_options(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        defaults = OBJECTIVE_OPTIONS.get(str(given.get("objective", "dpo")), {})
        missing = {name: value for name, value in defaults.items() if given.get(name) is None}
        return {**given, **missing}

    @model_validator(mode="after")
    def _has_no_option_of_another_objective(self) -> Training:
        known = OBJECTIVE_OPTIONS[self.objective]
        for name in _OPTION_NAMES:
            if name not in known and getattr(self, name) is not None:
                own = ", ".join(known) if known else "none"
                raise ValueError(f"objective {self.objective!r} has no option {name!r} (its options: {own}); remove it")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The objective's options, all with a value."""
        return {name: getattr(self, name) for name in OBJECTIVE_OPTIONS[self.objective]}

    @property
    def settled(self) -> Training:
        """What decides the adapter: everything but whom the progress is reported to."""
        return self.model_copy(update={"tracker": None})

    def with_objective(self, objective: Objective) -> Training:
        """The same training with another objective, at that objective's default options."""
        kept = {name: value for name, value in self.model_dump().items() if name not in _OPTION_NAMES}
        return Training(**{**kept, "objective": objective})
