"""A suite: one backbone, a LoRA per task, and the ways of merging them that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from prefdelta.core.config import Config
from prefdelta.core.folder_names import OptionalName, PlainName, plain_label, refuse_alike, refuse_repeated
from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.learning import Learning
from prefdelta.recipe.methods import MergeMethod, Scale
from prefdelta.recipe.models import Model
from prefdelta.recipe.training import Lora

ImageFormat = Literal["split-folders", "tracks", "characters", "idx", "drawings", "digits", "digits-on-photos"]
SentenceFormat = Literal["json-lines", "sick"]
SplitName = Literal["train", "validation", "test"]
ClassifierObjective = Literal["entropy", "cross-entropy"]


class Optimisation(Config):
    """How something is trained: AdamW, linear warm-up, cosine decay. A checkpoint every ``checkpoint_steps``."""

    steps: int = Field(default=500, gt=0, description="Optimiser steps.")
    batch_size: int = Field(default=64, gt=0, description="Examples per step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="The peak, after a linear warm-up; then cosine decay.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's.")
    warmup_ratio: float = Field(
        default=0.05, ge=0, le=1, description="Share of the steps in which the learning rate rises."
    )
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to this norm.")
    checkpoint_steps: int = Field(
        default=200, gt=0, description="Optimiser steps between checkpoints, which is what a kill can cost."
    )


class SmallBackbone(Config):
    """What is common to the backbones that are pretrained here."""

    type: str
    hidden: int = Field(default=160, gt=0, description="Width.")
    layers: int = Field(default=3, gt=0, description="Transformer layers.")
    heads: int = Field(default=5, gt=0, description="Attention heads.")
    mlp: int = Field(default=320, gt=0, description="Width of the feed-forward layers.")
    training: Optimisation = Field(default=Optimisation(), description="How it is pretrained.")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> SmallBackbone:
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden is {self.hidden}, which {self.heads} heads cannot share; give a multiple of heads"
            )
        return self


class VitBackbone(SmallBackbone):
    """A vision transformer pretrained here on the tasks' ``pretrain`` images; its class vectors are the heads.

    A logit is the cosine of feature and class vector over ``temperature``.
    """

    type: Literal["vit"] = Field(description="A vision transformer, pretrained here.")
    image_size: int = Field(default=32, gt=0, description="Images are squeezed to squares of this side.")
    patch: int = Field(default=8, gt=0, description="Side of a patch.")
    temperature: float = Field(default=0.05, gt=0, description="A logit is a cosine over this.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="In pretraining.")


class BertBackbone(SmallBackbone):
    """A text encoder pretrained here by masked language modelling on the tasks' training sentences and ``texts``.

    Each task trains a linear head together with its LoRA.
    """

    type: Literal["bert"] = Field(description="A text encoder, pretrained here.")
    vocabulary: int = Field(default=6000, gt=0, description="Word pieces.")
    max_length: int = Field(default=64, gt=0, description="Tokens; longer inputs are cut.")
    texts: tuple[str, ...] = Field(
        default=(), description="Plain text files under `data`, for pretraining beside the tasks' sentences."
    )


class ClipBackbone(Config):
    """A pretrained CLIP; its text encoder makes the heads from class names.

    With an ``entropy_scale`` of 1, as in TARA-Merging's experiments, predictive entropies are nearly those of the
    uniform distribution.
    """

    type: Literal["clip"] = Field(description="A pretrained CLIP.")
    model: Model = Field(description="A Hugging Face id or folder.")
    image_size: int = Field(default=224, gt=0, description="Images are scaled and cut to squares of this side.")
    logit_scale: bool = Field(default=True, description="Multiply cosines by CLIP's learned scale (about 100).")
    entropy_scale: float | None = Field(
        default=None,
        gt=0,
        description="That factor where coefficients are learned; left out, the same. Published runs of TARA have 1.",
    )


class DecoderBackbone(Config):
    """A pretrained language model read at its last token; each task trains a linear head together with its LoRA."""

    type: Literal["language-model"] = Field(description="A pretrained language model, read at its last token.")
    model: Model = Field(description="A Hugging Face id or folder.")
    max_length: int = Field(default=256, gt=0, description="Tokens; longer inputs are cut.")
    template: str = Field(
        default="Premise: {premise}\nHypothesis: {hypothesis}\nRelation:",
        description="How a pair of sentences becomes a text.",
    )


class EncoderBackbone(Config):
    """A pretrained text encoder; its feature is the mean over a pair's tokens, as sentence encoders are read.

    Each task trains a linear head together with its LoRA.
    """

    type: Literal["text-encoder"] = Field(description="A pretrained text encoder, read as the mean over its tokens.")
    model: Model = Field(description="A Hugging Face id or folder.")
    max_length: int = Field(default=128, gt=0, description="Tokens; longer inputs are cut.")


TextBackbone = BertBackbone | DecoderBackbone | EncoderBackbone
"""Those that read sentences."""

Backbone = Annotated[VitBackbone | ClipBackbone | TextBackbone, Field(discriminator="type")]


class FileSource(Config):
    """A task in ``files`` under the suite's ``data`` root, in one of the known formats."""

    format: ImageFormat | SentenceFormat = Field(
        description=(
            "How the files are read. Images: `split-folders` (archives of `train/CLASS/FILE` and `test/CLASS/FILE`), "
            "`tracks` (`CLASS/TRACK_FRAME`, GTSRB), `characters` (`ALPHABET/CHARACTER/ID_DRAWER`, Omniglot), `idx` "
            "(images, labels), `drawings` (raw 28×28 arrays, one file per class), `digits` (scikit-learn's), "
            "`digits-on-photos`. Sentences: `json-lines` (`premise`, `hypothesis`, `label`; also inside zip archives), "
            "`sick`."
        )
    )
    files: tuple[str, ...] = Field(default=(), description="Paths under the suite's `data`.")


def _only_train() -> dict[SplitName, str]:
    return {"train": "train"}


class HubSource(Config):
    """A task that the ``datasets`` library loads: a data set on the Hub, or a local folder (``imagefolder``, ``json``).

    Without a test split, a fifth of the training rows is one, and likewise for validation.
    """

    dataset: str = Field(description="An id on the Hub, or `imagefolder` or `json` with `data_dir`.")
    config: str | None = Field(default=None, description="The data set's configuration.")
    revision: str | None = Field(default=None, description="A commit of the data set on the Hub.")
    data_dir: str | None = Field(default=None, description="A local folder.")
    columns: tuple[str, ...] = Field(
        default=("image",), description="The column of the image; or those of premise and hypothesis."
    )
    label: str = Field(default="label", description="The column of the label; rows without one (-1) are left out.")
    splits: dict[SplitName, str] = Field(
        default_factory=_only_train,
        description=(
            "`train`, `validation`, `test` → the source's own names; a missing one is a fifth of the training rows."
        ),
    )


class Limits(Config):
    """The most examples of each split; what is not given is not limited (``pretrain``: none are set aside)."""

    pretrain: int = Field(default=0, ge=0, description="Examples set aside for a backbone's pretraining.")
    train: int | None = Field(default=None, gt=0, description="The most training examples; left out, all.")
    validation: int | None = Field(default=None, gt=1, description="The most validation examples; left out, all.")
    test: int | None = Field(default=None, gt=1, description="The most test examples; left out, all.")


class SuiteTask(Config):
    """One task. ``class_names`` replaces the source's labels, ``prompt`` puts them into a sentence for CLIP."""

    name: PlainName = Field(description="What the task is called in results and folders.")
    source: FileSource | HubSource = Field(
        description="Files under `data`, or a data set that the `datasets` library loads."
    )
    limits: Limits = Field(default=Limits(), description="The most examples of each split.")
    prompt: str = Field(default="a photo of a {}.", description="A class name as a sentence, for CLIP's text encoder.")
    class_names: dict[str, str] | None = Field(default=None, description="The source's label → the name to use.")


class AdapterTraining(Config):
    """How each task's LoRA is trained, on cross-entropy."""

    lora: Lora = Field(
        default=Lora(r=16, alpha=16, targets=("q_proj", "k_proj", "v_proj", "o_proj")),
        description="The adapter's shape.",
    )
    training: Optimisation = Field(default=Optimisation(), description="How it is trained.")


class TriedMethod(MergeMethod):
    """A data-free merge and what is tried on validation: each scale λ with each combination of ``options``.

    An option with a list is tried at each entry. Without ``label`` it is called by its name.
    """

    scales: tuple[Scale, ...] = Field(
        default=(1.0,), min_length=1, description="Factors λ on the finished merge to try."
    )

    @property
    def called(self) -> str:
        """The ``label``, by default the name; a plain name."""
        return self.label if self.label is not None else plain_label(self.name)

    @property
    def tried(self) -> dict[str, tuple[Any, ...]]:
        """Option -> the values that it is tried at."""
        return {
            name: tuple(value) if isinstance(value, list | tuple) else (value,) for name, value in self.options.items()
        }


class LearnedMethod(Config):
    """A merge whose coefficients are learned on validation inputs, and what is tried on validation."""

    learn: str = Field(description="A learned merge: `ada-module`, `tara-a`, `tara-b` and others.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of what is learned.")
    label: OptionalName = Field(
        default=None, description="What the method is called in tables and folders; left out, what is learned."
    )
    objective: ClassifierObjective = Field(
        default="entropy",
        description=(
            "What the coefficients make small: `entropy` of the predictions, or `cross-entropy` with the labels."
        ),
    )
    learning: Learning = Field(default=Learning(), description="How the coefficients are learned.")
    learning_rates: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(1e-3,),
        min_length=1,
        description="Learning rates to try, in place of `learning.learning_rate`; each is one run.",
    )
    scales: tuple[Scale, ...] = Field(
        default=(1.0,), min_length=1, description="Factors λ on the finished merge to try."
    )
    batch_size: int = Field(default=16, gt=0, description="Examples per step and task.")

    @property
    def called(self) -> str:
        """The ``label``, by default what is learned; a plain name."""
        return self.label if self.label is not None else plain_label(self.learn)


def _kind_of_method(value: Any) -> str:
    learned = isinstance(value, LearnedMethod) or (isinstance(value, Mapping) and "learn" in value)
    return "learned" if learned else "merge"


SuiteMergeMethod: TypeAlias = TriedMethod | LearnedMethod
_GivenMethod = Annotated[
    Annotated[TriedMethod, Tag("merge")] | Annotated[LearnedMethod, Tag("learned")], Discriminator(_kind_of_method)
]


class PreferenceSweep(Config):
    """One learned method at several preferences ρ for one task; the other tasks share the rest equally."""

    method: str = Field(description="What a learned method of the suite is called.")
    task: str = Field(description="The task whose preference ρ is swept.")
    weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.01, 0.125, 0.4, 0.7, 0.95),
        min_length=1,
        description="The values of ρ; the other tasks share the rest.",
    )


class SuiteRecipe(BaseRecipe):
    """A comparison of merge methods. ``budget`` is the number of settings that every method tries on validation.

    Settings are chosen with the first seed's adapters and used for all seeds. ``unseen`` tasks are left out of a
    second set of merges, made with the same settings, and tested there.
    """

    kind: Literal["suite"] = Field(
        default="suite", description="What the run is: a comparison of merge methods on classification tasks."
    )
    data: str = Field(
        default=".",
        description="The folder that files of tasks and texts are in; `./` and `../` are relative to the recipe.",
    )
    backbone: Backbone = Field(description="The model that the tasks' adapters are trained over.")
    pretrain_seed: int = Field(default=0, description="Seed of a backbone that is pretrained here; all seeds share it.")
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="Training seeds: each gives one adapter per task and one merge per method.",
    )
    tasks: tuple[SuiteTask, ...] = Field(min_length=2, description="The tasks.")
    adapter: AdapterTraining = Field(default=AdapterTraining(), description="How each task's LoRA is trained.")
    methods: tuple[_GivenMethod, ...] = Field(min_length=1, description="What is compared.")
    budget: int = Field(gt=0, description="Settings that every method tries on validation items.")
    unseen: tuple[str, ...] = Field(
        default=(), description="Tasks that are left out of a second set of merges, and tested there."
    )
    preference: PreferenceSweep | None = Field(
        default=None, description="A sweep of one learned method over preferences for one task."
    )
    evaluation_batch: int = Field(default=256, gt=0, description="Items per forward pass.")

    @model_validator(mode="after")
    def _names_fit(self) -> SuiteRecipe:
        tasks = [task.name for task in self.tasks]
        refuse_alike("seed", self.seeds)
        for method in self.methods:
            refuse_alike(f"method {method.called!r}: scale", method.scales)
            if isinstance(method, LearnedMethod):
                refuse_alike(f"method {method.called!r}: learning rate", method.learning_rates)
        refuse_repeated("task", tasks)
        refuse_repeated("method", (method.called for method in self.methods))
        if any(method.called.casefold() == "backbone" for method in self.methods):
            raise ValueError("method 'backbone' is what results call the backbone without adapters; give another label")
        unknown = [name for name in self.unseen if name not in tasks]
        if unknown:
            raise ValueError(f"unseen names {unknown[0]!r}, which is no task of this suite")
        if self.unseen and len(tasks) - len(self.unseen) < 2:
            raise ValueError("at least two tasks must be left to merge when the unseen ones are set aside")
        if self.preference is not None:
            learned = [method.called for method in self.methods if isinstance(method, LearnedMethod)]
            if self.preference.method not in learned:
                raise ValueError(f"preference.method {self.preference.method!r} is no learned method of this suite")
            refuse_alike("preference.weights: weight", self.preference.weights)
            if self.preference.task not in tasks:
                raise ValueError(f"preference.task {self.preference.task!r} is no task of this suite")
        return self

    @model_validator(mode="after")
    def _budgets_are_equal(self) -> SuiteRecipe:
        for method in self.methods:
            if settings_count(method) != self.budget:
                raise ValueError(
                    f"method {method.called!r} tries {settings_count(method)} settings, the budget is {self.budget}; "
                    "all methods must try equally many"
                )
        return self


def settings_count(method: SuiteMergeMethod) -> int:
    """How many settings a method tries on validation."""
    if isinstance(method, LearnedMethod):
        return len(method.learning_rates) * len(method.scales)
    count = len(method.scales)
    for values in method.tried.values():
        count *= len(values)
    return count
