"""What is watched for side effects."""

from __future__ import annotations

from pydantic import Field, model_validator

from prefdelta.core.config import Config
from prefdelta.core.folder_names import refuse_repeated
from prefdelta.recipe.questions import Benchmark, refuse_held_out
from prefdelta.recipe.sampling import Sampling, refuse_several


class Watch(Config):
    """Unrelated tasks that are answered by the student, by each domain's merge, and by that merge without each delta.

    They choose nothing. Only ``test`` items are used, answered as ``sampling`` says and without search.
    """

    benchmarks: tuple[Benchmark, ...] = Field(
        min_length=1, description="The watched tasks, of which only `test` items are used."
    )
    sampling: Sampling = Field(default=Sampling(), description="How their questions are answered.")

    @model_validator(mode="after")
    def _names_are_unique_and_answers_single(self) -> Watch:
        refuse_repeated("benchmark", (benchmark.name for benchmark in self.benchmarks))
        refuse_held_out(self.benchmarks, "watched tasks")
        refuse_several("sampling.n", self.sampling)
        return self
