"""The kind ``aggregation``: many preference deltas, merged into one adapter (PDA, arXiv 2606.00357)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prefdelta.core.config import Config
from prefdelta.core.errors import did_you_mean
from prefdelta.core.folder_names import PlainName, refuse_alike, refuse_repeated
from prefdelta.core.reference import ModelRef
from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.methods import MergeMethod, Scale
from prefdelta.recipe.models import AnySource, Model, Source, labelled
from prefdelta.recipe.pairing import Pairing
from prefdelta.recipe.questions import Benchmark, Prompts
from prefdelta.recipe.sampling import Filters, Sampling, Search, refuse_several
from prefdelta.recipe.scoring import Scoring
from prefdelta.recipe.selection import Selection
from prefdelta.recipe.training import Training
from prefdelta.recipe.watching import Watch

_OF_THE_RUN = {"student", "results.json", "recipe.json", "run.json", "journal.jsonl", "report.html", "result.svg"}
"""What lies beside the folders of the domains in a run's folder."""

Control = Literal["sft", "shuffled", "reversed"]
Baseline = Literal["joint", "sequential"]


class Delta(Config):
    """One preference delta: what ``weak`` answers is preferred over what ``weaker`` answers."""

    name: PlainName = Field(description="What the delta is called in results and folders.")
    weak: Source = Field(description="The model (server, file of answers) whose answers are preferred.")
    weaker: Source = Field(description="The model (server, file of answers) whose answers are rejected.")


_DEFAULT_METHODS = ("average", "truncate", "truncate-ties", "gam")


class Merge(Config):
    """Which merges are made, at which scales λ, and what chooses among them.

    ``scales`` are the candidates of whatever has none of its own; ``auto`` searches λ on a log axis instead, over the
    same norms for every method.
    """

    methods: tuple[MergeMethod, ...] = Field(
        default=tuple(MergeMethod(name=name) for name in _DEFAULT_METHODS),
        min_length=1,
        description="The merge methods, each a name (`prefdelta methods` lists them) or the keys of a merge method.",
    )
    scales: tuple[Scale, ...] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Factors λ on the merged update to try, among them 1, which is always reported; `auto` searches on a log "
            "axis over the same norms for every method."
        ),
    )
    selection: Selection = Field(default=Selection(), description="What scale and method are chosen by.")

    @model_validator(mode="after")
    def _scale_one_is_reported(self) -> Merge:
        for scales in (self.scales, *(method.scales for method in self.methods if method.scales)):
            if scales == "auto":
                continue
            if 1.0 not in scales:
                raise ValueError("scales must contain 1.0, which is always reported beside the chosen scale")
            refuse_alike("scale", scales)
        return self

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Merge:
        refuse_repeated("merge", (method.called for method in self.methods))
        return self


class Domain(Config):
    """One line of the experiment: its prompts, its deltas, one merge of them, its benchmarks.

    Nothing is trained on the pairs of the first ``held_out`` prompts (in the order of a hash of their ids); benchmarks
    may be made of them.
    """

    prompts: Prompts = Field(description="The training questions.")
    held_out: int = Field(
        default=0,
        ge=0,
        description=(
            "The pairs of so many of the prompts are not trained on, the same for every delta; benchmarks may be "
            "made of them."
        ),
    )
    deltas: tuple[Delta, ...] = Field(min_length=1, description="The preference deltas of this domain.")
    sampling: Sampling = Field(default=Sampling(), description="How answers are drawn for training.")
    search: Search | None = Field(
        default=None, description="A search engine that the models may use; left out, they answer without."
    )
    scoring: Scoring | None = Field(default=None, description="How answers are scored, where pairs are made by scores.")
    pairing: Pairing = Field(default=Pairing(), description="Which answers make a pair.")
    filters: Filters = Field(default=Filters(), description="Which pairs are dropped.")
    training: Training = Field(default=Training(), description="How an adapter is trained.")
    evaluation_sampling: Sampling | None = Field(
        default=None, description="How answers are drawn in benchmarks; left out, as `sampling` says."
    )
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1, description="What the domain is measured on.")

    @model_validator(mode="after")
    def _scores_are_there(self) -> Domain:
        if self.pairing.needs_scores and self.scoring is None:
            raise ValueError(
                f"pairing by {self.pairing.rule.name!r} with these gaps needs scores; say how under 'scoring'"
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique_and_answers_single(self) -> Domain:
        refuse_repeated("delta", (delta.name for delta in self.deltas))
        if self.training.together and len(self.deltas) == 1:
            raise ValueError("training.together needs two deltas or more, and there is one; remove the key")
        labelled(self._given_sources())
        refuse_several("evaluation_sampling.n", self.evaluation_sampling)
        refuse_repeated("benchmark", (benchmark.name for benchmark in self.benchmarks))
        return self

    @model_validator(mode="after")
    def _held_out_pairs_are_there(self) -> Domain:
        if self.held_out >= self.prompts.count:
            raise ValueError(f"held_out leaves none of {self.prompts.count} prompts to train on; lower it")
        names = [delta.name for delta in self.deltas]
        for benchmark in self.benchmarks:
            delta = benchmark.pairs.held_out if benchmark.pairs is not None else None
            if delta is None:
                continue
            if delta not in names:
                raise ValueError(
                    f"benchmark {benchmark.name!r}: no delta is called {delta!r}; {did_you_mean(delta, names)}"
                )
            if self.held_out == 0:
                raise ValueError(f"benchmark {benchmark.name!r} needs pairs to test on; set the domain's held_out")
        return self

    @property
    def sources(self) -> dict[str, AnySource]:
        """The models, servers and files of answers that the deltas are between, by label, each once."""
        return labelled(self._given_sources())

    def _given_sources(self) -> list[AnySource]:
        return [source for delta in self.deltas for source in (delta.weak, delta.weaker)]


class Recipe(BaseRecipe):
    """A whole run. ``seeds`` are training seeds: each gives one adapter per delta and one merge per method."""

    kind: Literal["aggregation"] = Field(
        default="aggregation", description="What the run is: many preference deltas, merged into one adapter."
    )
    student: Model = Field(description="The model that is taught.")
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description=(
            "Training seeds: each gives one adapter per delta and one merge per method; intervals include the "
            "noise between seeds if there are two or more."
        ),
    )
    domains: dict[PlainName, Domain] = Field(
        min_length=1, description="Your names → domains, the lines of the experiment."
    )
    merge: Merge = Field(default=Merge(), description="Which merges are made, at which scales.")
    baselines: tuple[Baseline, ...] = Field(
        default=(),
        description=(
            "Adapters to compare merging with, trained on all pair sets: at once (`joint`) or one after the other "
            "(`sequential`)."
        ),
    )
    controls: tuple[Control, ...] = Field(
        default=(),
        description=(
            "Experiments that should not work as well: fine-tuning on the chosen answers (`sft`), preferences by "
            "coin toss (`shuffled`) or turned round (`reversed`)."
        ),
    )
    control_seeds: tuple[int, ...] | None = Field(
        default=None, description="Those of the seeds that controls are run with; left out, all."
    )
    evaluate_weak: bool = Field(default=True, description="Also measure the weak and weaker models themselves.")
    watch: Watch | None = Field(
        default=None, description="Unrelated tasks that are always answered, so that side effects are seen."
    )

    @model_validator(mode="after")
    def _seeds_differ(self) -> Recipe:
        refuse_alike("seed", self.seeds)
        refuse_alike("control seed", self.control_seeds or ())
        if strange := [seed for seed in self.control_seeds or () if seed not in self.seeds]:
            raise ValueError(f"control_seeds names {strange[0]}, which is none of seeds")
        return self

    @model_validator(mode="after")
    def _weak_models_can_be_measured(self) -> Recipe:
        for name, domain in self.domains.items():
            pairs = [benchmark.name for benchmark in domain.benchmarks if benchmark.pairs is not None]
            models = [label for label, source in domain.sources.items() if isinstance(source, ModelRef)]
            if self.evaluate_weak and pairs and models:
                raise ValueError(
                    f"domain {name!r}: the pairs {pairs[0]!r} tell what an adapter changes in a model, which says "
                    f"nothing of {models[0]!r} by itself; set evaluate_weak to false"
                )
        return self

    @model_validator(mode="after")
    def _no_name_stands_for_two_things(self) -> Recipe:
        refuse_repeated("domain", self.domains)
        if taken := sorted(_OF_THE_RUN & {name.casefold() for name in self.domains}):
            raise ValueError(f"domain {taken[0]!r} has the name of something that a run writes; rename the domain")
        for name, domain in self.domains.items():
            made = self._names_of_variants(domain)
            merges = {method.called: "a merge" for method in self.merge.methods}
            sources = dict.fromkeys(domain.sources, "a model that answers")
            for what, called, others in (
                ("delta", [delta.name for delta in domain.deltas], sources | made | merges),
                ("merge", merges, made),
            ):
                owners = {other.casefold(): owner for other, owner in others.items()}
                for each in called:
                    if (owner := owners.get(each.casefold())) is not None:
                        raise ValueError(
                            f"domain {name!r} has a {what} called {each!r}, as {owner} is; rename the {what}"
                        )
        return self

    def _names_of_variants(self, domain: Domain) -> dict[str, str]:
        """Every name that is evaluated in the domain beside deltas and merges -> what it is."""
        deltas = [delta.name for delta in domain.deltas]
        names = {f"{control}.{last}": "a control" for control in self.controls for last in ("average", *deltas)}
        names |= {f"sequential.{delta}": "a baseline" for delta in deltas}
        names |= dict.fromkeys(self.baselines, "a baseline")
        return names | {"student": "the student", "selection": "what validation chooses"}
