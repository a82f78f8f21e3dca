"""What is watched for side effects."""

from __future__ import annotations

from pydantic import Field, model_validator

from prefdelta.recipe.config import Config
from prefdelta.recipe.questions import Benchmark
from prefdelta.recipe.sampling import Sampling


class Watch(Config):
    """Unrelated tasks that are answered by the student, by each domain's merge, and by that merge without each delta.

    They choose nothing. Only ``test`` items are used, answered as ``sampling`` says and without search.
    """

    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Watch:
        names = [benchmark.name for benchmark in self.benchmarks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"benchmark name {twice[0]!r} is used twice; names must differ")
        return self
