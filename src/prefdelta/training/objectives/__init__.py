"""Training objectives (preference losses): pure functions of per-sequence log-probabilities, one file per family.

To add one, write its options and its function in a file of its own, decorated with
:func:`~prefdelta.training.objectives.base.objective`. The file is imported here, or, in another package, named as an
entry point of the group ``prefdelta.objectives``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.registry import parse_options
from prefdelta.recipe import Training
from prefdelta.recipe.learning import LanguageLearning
from prefdelta.training.objectives import apo, dpo, ipo, orpo, sft, simpo, wrpo  # noqa: F401 (registers them)
from prefdelta.training.objectives.base import OBJECTIVES, Objective, Options, Outcome, Scores, objective

__all__ = ["OBJECTIVES", "Loss", "Objective", "Options", "Outcome", "Scores", "loss_of", "objective", "resolved"]


@dataclass(frozen=True)
class Loss:
    """An objective with its options: what a training minimises.

    Attributes:
        objective: which one.
        options: all its options.
    """

    objective: Objective
    options: Options

    @classmethod
    def named(cls, name: str, options: Mapping[str, Any] | None = None) -> Loss:
        """The objective called ``name``, its options checked and those left out at their defaults.

        Raises:
            PrefdeltaError: there is no such objective, or it has no such option.
        """
        objective = OBJECTIVES.find(name)
        return cls(objective, parse_options(objective.options, options, owner=f"objective {name!r}"))

    @property
    def name(self) -> str:
        """The objective's name."""
        return self.objective.name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the responses that it looks at."""
        return self.objective.responses

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with the reference."""
        return self.objective.needs_reference

    @property
    def needs_prompt(self) -> bool:
        """Whether it counts the prompt's tokens."""
        return self.options.needs_prompt

    @property
    def at_start(self) -> float | None:
        """Its value while the policy equals the reference, where that is known."""
        return self.objective.at_start(self.options) if self.objective.at_start else None

    def at(self, step: int, steps: int) -> Loss:
        """The loss after ``step`` of ``steps`` optimiser steps; another one where options move while training."""
        return replace(self, options=self.options.at(step, steps))

    def __call__(self, scores: Scores) -> Outcome:
        """The loss of each row."""
        return self.objective.function(scores, self.options)

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


def loss_of(section: Training | LanguageLearning) -> Loss:
    """The objective that a recipe's ``training`` section, or a section of learned coefficients, asks for.

    Raises:
        PrefdeltaError: the objective or one of its options is unknown or has a bad value; the message names the
            nearest option of the objective or key of the section.
    """
    name, options = section.objective.name, section.objective.options
    known = OBJECTIVES.find(name).options.model_fields
    for key in options:
        if key not in known:
            hint = did_you_mean(key, [*known, *type(section).model_fields])
            raise PrefdeltaError(f"objective {name!r}: unknown option {key!r}; {hint}")
    return Loss.named(name, options)


def resolved(training: Training) -> Training:
    """The same training with all options of its objective, those left out at the objective's defaults.

    Raises:
        PrefdeltaError: as :func:`loss_of`.
    """
    return training.with_objective(training.objective.name, loss_of(training).options.model_dump())
