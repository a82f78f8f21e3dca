"""The kind ``aggregation``: many preference deltas, merged into one adapter (PDA, arXiv 2606.00357)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.config import NAME, Config
from prefdelta.recipe.models import Model, Source
from prefdelta.recipe.pairing import Pairing
from prefdelta.recipe.questions import Benchmark, Prompts
from prefdelta.recipe.sampling import Filters, Sampling, Search
from prefdelta.recipe.scoring import Scoring
from prefdelta.recipe.training import Training
from prefdelta.recipe.watching import Watch

Control = Literal["sft", "shuffled", "reversed"]
Baseline = Literal["joint", "sequential"]


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
    scoring: Scoring | None = None
    pairing: Pairing = Pairing()
    filters: Filters = Filters()
    training: Training = Training()
    evaluation_sampling: Sampling | None = None
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _scores_are_there(self) -> Domain:
        if self.pairing.needs_scores and self.scoring is None:
            raise ValueError(f"pairing by {self.pairing.rule!r} with these gaps needs scores; say how under 'scoring'")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Domain:
        for kind, names in (("delta", self.deltas), ("benchmark", self.benchmarks)):
            seen = [entry.name for entry in names]
            twice = sorted({name for name in seen if seen.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} name {twice[0]!r} is used twice; names must differ")
        return self


class Recipe(BaseRecipe):
    """A whole run. ``seeds`` are training seeds: each gives one adapter per delta and one merge per method.

    ``baselines`` are what merging is compared with: one adapter trained on all pair sets, at once (``joint``) or one
    set after the other (``sequential``, in the order of the deltas).
    """

    kind: Literal["aggregation"] = "aggregation"
    student: Model
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    domains: dict[str, Domain] = Field(min_length=1)
    merge: Merge = Merge()
    baselines: tuple[Baseline, ...] = ()
    controls: tuple[Control, ...] = ()
    control_seeds: tuple[int, ...] | None = None
    evaluate_weak: bool = True
    watch: Watch | None = None

    @model_validator(mode="after")
    def _no_delta_is_called_like_a_baseline(self) -> Recipe:
        for name, domain in self.domains.items():
            taken = sorted({delta.name for delta in domain.deltas} & set(self.baselines))
            if taken:
                raise ValueError(f"domain {name!r} has a delta called {taken[0]!r}, as a baseline is; rename the delta")
        return self
