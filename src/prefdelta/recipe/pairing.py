"""Which answers make a pair."""

from __future__ import annotations

from pydantic import Field, model_validator

from prefdelta.core.config import Config, Named


class Pairing(Config):
    """How the answers of ``weak`` and ``weaker`` become pairs.

    ``order`` is PDA's rule, ``same-source`` FuseChat-3.0's. All but ``order`` need scores.
    """

    rule: Named = Field(
        default=Named(name="order"),
        description=(
            "`order`: the weak model's answer over the weaker model's; `score`: the higher score of the two; "
            "`best-worst`: of all answers of both; `same-source`: best over worst answer of the model with the "
            "best one."
        ),
    )
    min_gap: float | None = Field(
        default=None,
        ge=0,
        description="The least difference in score; with `order` it keeps the pairs on which the scores agree.",
    )
    max_gap: float | None = Field(default=None, gt=0, description="The largest difference in score.")

    @property
    def needs_scores(self) -> bool:
        """Whether answers must be scored before they can be paired."""
        return self.rule.name != "order" or self.min_gap is not None or self.max_gap is not None

    @model_validator(mode="after")
    def _gaps_are_in_order(self) -> Pairing:
        if self.min_gap is not None and self.max_gap is not None and self.min_gap > self.max_gap:
            raise ValueError("min_gap is above max_gap, so that no pair could be kept")
        return self
