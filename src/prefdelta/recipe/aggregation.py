"""The kind ``aggregation``: many preference deltas, merged into one adapter (PDA, arXiv 2606.00357)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.config import NAME, Config
from prefdelta.recipe.models import Model, Source
from prefdelta.recipe.questions import Benchmark, Prompts
from prefdelta.recipe.sampling import Filters, Sampling, Search
from prefdelta.recipe.training import Training

Control = Literal["sft", "shuffled", "reversed"]


class Delta(Config):
    """One preference delta: what ``weak`` answers is preferred over what ``weaker`` answers."""

    name: str = Field(pattern=NAME)
    weak: Source
    weaker: Source


class Merge(Config):
    """Which merges are made, and the scales λ that validation chooses among."""

    methods: tuple[str, ...] = ("average", "gam", "gam-orthonormal", "gam-norm-matched")
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)

    @model_validator(mode="after")
    def _scale_one_is_reported(self) -> Merge:
        if 1.0 not in self.scales:
            raise ValueError("scales must contain 1.0, which is always reported beside the chosen scale")
        return self


class Domain(Config):
    """One line of the experiment: its prompts, its deltas, one merge of them, its benchmarks."""

    prompts: Prompts
    deltas: tuple[Delta, ...] = Field(min_length=1)
    sampling: Sampling = Sampling()
    search: Search | None = None
    filters: Filters = Filters()
    training: Training = Training()
    evaluation_sampling: Sampling | None = None
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Domain:
        for kind, names in (("delta", self.deltas), ("benchmark", self.benchmarks)):
            seen = [entry.name for entry in names]
            twice = sorted({name for name in seen if seen.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} name {twice[0]!r} is used twice; names must differ")
        return self


class Recipe(BaseRecipe):
    """A whole run. ``seeds`` are training seeds: each gives one adapter per delta and one merge per method."""

    kind: Literal["aggregation"] = "aggregation"
    student: Model
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    domains: dict[str, Domain] = Field(min_length=1)
    merge: Merge = Merge()
    controls: tuple[Control, ...] = ()
    control_seeds: tuple[int, ...] | None = None
    evaluate_weak: bool = True
