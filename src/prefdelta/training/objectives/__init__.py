"""Training objectives: pure functions of per-sequence log-probabilities, one file per family.

To add one: write its function in a file of its own, enter it in :data:`OBJECTIVES`, and enter its options with their
defaults in :mod:`prefdelta.recipe.training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Training
from prefdelta.training.objectives.apo import apo_down, apo_zero, one
from prefdelta.training.objectives.base import (
    PAIR,
    TRIPLE,
    Objective,
    Outcome,
    Scores,
    ln_2,
    squared_target,
)
from prefdelta.training.objectives.dpo import dpo, dpo_norm
from prefdelta.training.objectives.ipo import ipo
from prefdelta.training.objectives.orpo import orpo
from prefdelta.training.objectives.sft import sft
from prefdelta.training.objectives.simpo import simpo
from prefdelta.training.objectives.wrpo import alpha_at, wrpo, wrpo_ipo, wrpo_norm, wrpo_simpo, wrpo_two_loss

__all__ = ["OBJECTIVES", "Loss", "Objective", "Outcome", "Scores", "loss_of"]

_WRPO = "arXiv 2412.03187"
OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("dpo", "arXiv 2305.18290", dpo, PAIR, needs_reference=True, at_start=ln_2),
        Objective("dpo-norm", "arXiv 2411.15124", dpo_norm, PAIR, needs_reference=True, at_start=ln_2),
        Objective("ipo", "arXiv 2310.12036", ipo, PAIR, needs_reference=True, at_start=squared_target),
        Objective("apo-zero", "arXiv 2408.06266", apo_zero, PAIR, needs_reference=True, at_start=one),
        Objective("apo-down", "arXiv 2408.06266", apo_down, PAIR, needs_reference=True, at_start=one),
        Objective("simpo", "arXiv 2405.14734", simpo, PAIR, needs_reference=False),
        Objective("orpo", "arXiv 2403.07691", orpo, PAIR, needs_reference=False),
        Objective("wrpo", _WRPO, wrpo, TRIPLE, needs_reference=True, at_start=ln_2),
        Objective("wrpo-norm", _WRPO, wrpo_norm, TRIPLE, needs_reference=True, at_start=ln_2),
        Objective("wrpo-ipo", _WRPO, wrpo_ipo, TRIPLE, needs_reference=True, at_start=squared_target),
        Objective("wrpo-simpo", _WRPO, wrpo_simpo, TRIPLE, needs_reference=False),
        Objective("wrpo-two-loss", _WRPO, wrpo_two_loss, TRIPLE, needs_reference=True, at_start=ln_2),
        Objective("sft", "maximum likelihood", sft, ("chosen",), needs_reference=False),
    )
}


@dataclass(frozen=True)
class Loss:
    """An objective with its options: what a training minimises.

    Attributes:
        objective: which one.
        options: all its options, as in the recipe.
    """

    objective: Objective
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The objective's name."""
        return self.objective.name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the responses that it looks at."""
        return tuple(self.objective.responses)

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with the reference."""
        return self.objective.needs_reference

    @property
    def needs_prompt(self) -> bool:
        """Whether it counts the prompt's tokens."""
        return self.options.get("nll_scope") == "full"

    @property
    def at_start(self) -> float | None:
        """Its value while the policy equals the reference, where that is known."""
        return self.objective.at_start(self.options) if self.objective.at_start else None

    def alpha(self, step: int, steps: int) -> float | None:
        """The weight of the source's answer after ``step`` of ``steps`` optimiser steps; ``None`` if it has none."""
        if "alpha" not in self.options:
            return None
        return alpha_at(step, steps, alpha=self.options["alpha"], schedule=self.options["alpha_schedule"])

    def __call__(self, scores: Scores, *, alpha: float | None = None) -> Outcome:
        """The loss of each row; ``alpha`` is that of :meth:`alpha` at this step."""
        fixed = {name: value for name, value in self.options.items() if name not in ("alpha", "alpha_schedule")}
        moving = {} if alpha is None else {"alpha": alpha}
        return self.objective.function(scores, **fixed, **moving)

    def positions(self, responses: int) -> tuple[int, ...]:
        """Which responses of a row it looks at, by how many the row has.

        An objective for pairs takes target and rejected of a triple: so it is the control of WRPO on the same rows.
        One for single answers takes the first: chosen, or source.

        Raises:
            PrefdeltaError: the row has too few.
        """
        wanted = len(self.names)
        if responses < wanted:
            kinds = {1: "demonstrations", 2: "pairs", 3: "triples"}
            raise PrefdeltaError(
                f"objective {self.name!r} learns from {kinds[wanted]} ({', '.join(self.names)}), but was given "
                f"{kinds[responses]}."
            )
        return (0,) if wanted == 1 else tuple(range(responses - wanted, responses))


def loss_of(training: Training) -> Loss:
    """What a recipe's ``training`` section asks for."""
    return Loss(OBJECTIVES[training.objective], training.options)
