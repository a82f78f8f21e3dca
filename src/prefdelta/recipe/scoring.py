"""How answers get the scores that pairs and triples are made by."""

from __future__ import annotations

from pydantic import Field, model_validator

from prefdelta.core.config import Config, Named
from prefdelta.recipe.models import Model


class Scoring(Config):
    """How answers are scored: by a reward ``model``, by a programmatic ``scorer``, or as a file at ``path`` says."""

    model: Model | None = Field(default=None, description="A reward model: any sequence-classification checkpoint.")
    label: int | None = Field(
        default=None,
        ge=0,
        description=(
            "Of a reward model with several outputs, the number of the one whose log-probability is the score."
        ),
    )
    batch_size: int = Field(default=16, gt=0, description="Answers scored at once.")
    max_length: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of prompt and answer that the reward model reads; left out, the model's limit.",
    )
    scorer: Named | None = Field(
        default=None, description="By rule, against the known answers, which the prompts need: a benchmark's `scorer`."
    )
    path: str | None = Field(
        default=None,
        description=(
            'A file of scores, one `{"item": …, "index": …, "score": …}` a line; `{source}` in its name stands for '
            "the model that answered (in a fusion `student` and `sft` for the student's own answers)."
        ),
    )

    @model_validator(mode="after")
    def _there_is_one_way(self) -> Scoring:
        if sum(way is not None for way in (self.model, self.scorer, self.path)) != 1:
            raise ValueError("give exactly one of model, scorer and path")
        return self
