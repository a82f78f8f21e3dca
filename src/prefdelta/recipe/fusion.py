"""The kind ``fusion``: many source models taught to one student by WRPO (arXiv 2412.03187)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from prefdelta.core.config import Config
from prefdelta.core.folder_names import PlainName, refuse_alike, refuse_repeated
from prefdelta.core.reference import ModelRef
from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.models import Model, Source, labelled
from prefdelta.recipe.questions import Benchmark, Prompts, refuse_held_out
from prefdelta.recipe.sampling import Sampling, Search, refuse_several
from prefdelta.recipe.scoring import Scoring
from prefdelta.recipe.training import Training

CONTROLS: dict[str, str] = {
    "wrpo": "dpo",
    "wrpo-norm": "dpo-norm",
    "wrpo-ipo": "ipo",
    "wrpo-simpo": "simpo",
    "wrpo-two-loss": "dpo",
}
"""Each weighted objective -> what it is when the source's answer has no weight."""

_WEIGHT = ("alpha", "alpha_schedule")  # the options that weigh the source's answer: a control has none of them


class Triples(Config):
    """Which triples are kept: those whose own answers differ in score by ``min_gap`` or more.

    The authors leave none out.
    """

    min_gap: float = Field(
        default=0.0, ge=0, description="How much the student's best and worst answers must differ in score."
    )
    source_ahead: bool = Field(
        default=False,
        description="Leave out prompts whose best source answer scores below the student's best; the authors do not.",
    )


class Comparison(Config):
    """Another way to train on the same prompts and answers.

    A weighted objective takes both answers, the student's own best and that of the sources.
    """

    start: Literal["student", "sft"] = Field(
        default="student",
        description=(
            "`student`: untouched, with its own answers to all prompts; `sft`: fine-tuned, with the answers of "
            "the main method."
        ),
    )
    chosen: Literal["own", "source"] = Field(
        default="own",
        description=(
            "What is preferred over the student's worst answer: its `own` best, or the best of the sources (`source`)."
        ),
    )
    training: Training = Field(description="The training, with any preference objective.")

    @model_validator(mode="after")
    def _learns_a_preference(self) -> Comparison:
        if self.training.objective.name == "sft":
            raise ValueError("objective 'sft' learns no preference; the sft stage is reported anyway")
        if self.training.objective.name in CONTROLS and self.chosen != "own":
            raise ValueError(f"objective {self.training.objective.name!r} takes both answers; leave 'chosen' out")
        return self


class FusionRecipe(BaseRecipe):
    """A whole run: sources answer, rewards choose, the student is fine-tuned on a share of the prompts, then WRPO.

    ``seeds`` are training seeds: each divides the prompts anew, and fine-tunes, samples and trains anew. The control,
    the same training on the same rows without the source's answer, cannot be left out.
    """

    kind: Literal["fusion"] = Field(
        default="fusion", description="What the run is: many source models taught to one student by WRPO."
    )
    student: Model = Field(description="The model that is taught.")
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="Training seeds: each divides the prompts anew, and fine-tunes, samples and trains anew.",
    )
    sources: tuple[Source, ...] = Field(
        min_length=1,
        description=(
            "Models or files of answers that the student learns from; their order decides between equal scores."
        ),
    )
    prompts: Prompts = Field(description="The training questions.")
    sft_share: float = Field(
        default=1 / 3,
        gt=0,
        lt=1,
        description=(
            "Share of the prompts, drawn at random, that the student is fine-tuned on; the preference has the rest."
        ),
    )
    sampling: Sampling = Field(
        default=Sampling(n=5, temperature=0.8, top_p=0.95), description="How answers are drawn for training."
    )
    search: Search | None = Field(
        default=None, description="A search engine that the models may use; left out, they answer without."
    )
    scoring: Scoring = Field(description="How answers are scored.")
    sft: Training = Field(
        default=Training(objective="sft"), description="How the student is fine-tuned; its objective is `sft`."
    )
    preference: Training = Field(
        default=Training(objective="wrpo"),
        description=(
            "Training of the main method, with an objective for triples (`wrpo`, `wrpo-norm`, `wrpo-ipo`, "
            "`wrpo-simpo`, `wrpo-two-loss`) and the rank and alpha of `sft.lora`."
        ),
    )
    triples: Triples = Field(default=Triples(), description="Which triples are kept.")
    comparisons: dict[PlainName, Comparison] = Field(
        default_factory=dict, description="Your names → other trainings on the same answers."
    )
    evaluation_sampling: Sampling | None = Field(
        default=None, description="How answers are drawn in benchmarks, one to each; left out, as `sampling` says."
    )
    evaluate_sources: bool = Field(default=True, description="Also measure the source models.")
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1, description="What the student is measured on.")

    @field_validator("sft", mode="before")
    @classmethod
    def _fine_tunes(cls, given: Any) -> Any:
        return {"objective": "sft", **given} if isinstance(given, dict) else given

    @field_validator("preference", mode="before")
    @classmethod
    def _weighs(cls, given: Any) -> Any:
        return {"objective": "wrpo", **given} if isinstance(given, dict) else given

    @field_validator("comparisons")
    @classmethod
    def _in_order(cls, given: dict[str, Comparison]) -> dict[str, Comparison]:
        # A run directory keeps its recipe with sorted keys; a report written from it shall be the same.
        return dict(sorted(given.items()))

    @model_validator(mode="after")
    def _stages_fit_together(self) -> FusionRecipe:
        refuse_alike("seed", self.seeds)
        if self.sft.objective.name != "sft":
            raise ValueError(f"sft.objective is {self.sft.objective.name!r}; only 'sft' fits there")
        if self.preference.objective.name not in CONTROLS:
            known = ", ".join(CONTROLS)
            raise ValueError(f"preference.objective is {self.preference.objective.name!r}; it must be one of {known}")
        if self.sampling.n < 2:
            raise ValueError("sampling.n must be 2 or more, so that an answer can be better than another")
        refuse_several("evaluation_sampling.n", self.evaluation_sampling)
        trainings = {"sft": self.sft, "preference": self.preference}
        trainings |= {f"comparisons.{name}.training": each.training for name, each in self.comparisons.items()}
        if shared := [name for name, training in trainings.items() if training.together]:
            raise ValueError(
                f"{shared[0]}.together: a fusion trains with other objectives or from where another training ended; "
                "remove the key"
            )
        further = {"preference": self.preference}
        further |= {f"comparisons.{k}.training": v.training for k, v in self.comparisons.items() if v.start == "sft"}
        for name, training in further.items():
            if (training.lora.r, training.lora.alpha) != (self.sft.lora.r, self.sft.lora.alpha):
                raise ValueError(f"{name}.lora must have the r and alpha of sft.lora, whose adapter it trains further")
        taken = {"student", "sft", self.main, self.control}
        if twice := sorted(taken & self.comparisons.keys()):
            raise ValueError(f"comparisons.{twice[0]}: that name is taken; choose another")
        if len(labelled(self.sources)) < len(self.sources):
            raise ValueError("one source is listed twice; keep one")
        refuse_repeated("benchmark", (benchmark.name for benchmark in self.benchmarks))
        refuse_held_out(self.benchmarks, "those of a fusion")
        models = [label for label, source in labelled(self.sources).items() if isinstance(source, ModelRef)]
        if self.evaluate_sources and models and any(benchmark.pairs for benchmark in self.benchmarks):
            raise ValueError(
                "benchmarks of pairs tell what an adapter changes in a model, which says nothing of "
                f"{models[0]!r} by itself; set evaluate_sources to false"
            )
        return self

    @property
    def main(self) -> str:
        """What the main method is called in tables: its objective."""
        return self.preference.objective.name

    @property
    def control(self) -> str:
        """What its control is called: fine-tuning, then the objective that is left without the source's answer."""
        return f"sft-{CONTROLS[self.main]}"

    @property
    def methods(self) -> dict[str, Comparison]:
        """Everything that is trained with a preference, the main method first and its control second."""
        given = self.preference.objective.options
        shared = {name: value for name, value in given.items() if name not in _WEIGHT}
        without = self.preference.with_objective(CONTROLS[self.main], shared)
        return {
            self.main: Comparison(start="sft", training=self.preference),
            self.control: Comparison(start="sft", training=without),
            **self.comparisons,
        }
