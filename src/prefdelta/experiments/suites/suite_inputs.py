"""The loaded inputs of a suite's units: backbone, and the tasks' examples, heads and adapters of one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from prefdelta.adapters import Adapter
from prefdelta.core.store import Artifact
from prefdelta.experiments.suites.backbone.bert import encode_pairs, encode_texts
from prefdelta.experiments.suites.backbone.encoder import Encoder, Head, load_encoder, load_tokenizer, pretrained_head
from prefdelta.experiments.suites.data.task import Examples, read_classes, read_images, read_sentences
from prefdelta.experiments.suites.measure import JointHead, Trial, joint_head
from prefdelta.experiments.suites.suite_context import BACKBONE, HEADS
from prefdelta.merging.learned.classify import cross_entropy, entropy
from prefdelta.merging.learned.data import Rows
from prefdelta.merging.learned.tasks import Task
from prefdelta.recipe.suite import (
    ClassifierObjective,
    ClipBackbone,
    DecoderBackbone,
    SuiteRecipe,
    TextBackbone,
    VitBackbone,
)

ADAPTER = "adapter"
HEAD = "head.safetensors"


@dataclass(frozen=True)
class SuiteInputs:
    """What the artifacts of a unit hold.

    Inputs are labelled ``backbone`` and ``heads``, where the recipe has them made, ``data/TASK`` and ``adapter/TASK``.

    Attributes:
        recipe: the suite.
        inputs: label -> artifact.
    """

    recipe: SuiteRecipe
    inputs: Mapping[str, Artifact]

    @cached_property
    def encoder(self) -> Encoder:
        """The backbone, loaded when first asked for."""
        return load_encoder(self.recipe.backbone, self._backbone)

    @property
    def _backbone(self) -> Path | None:
        return self.inputs[BACKBONE].path if BACKBONE in self.inputs else None

    def classes(self, task: str) -> tuple[str, ...]:
        """The names of a task's classes."""
        return read_classes(self.inputs[f"data/{task}"].path)

    def examples(self, task: str, split: str) -> Examples:
        """One split of a task, as the backbone takes it."""
        folder = self.inputs[f"data/{task}"].path
        backbone = self.recipe.backbone
        if isinstance(backbone, VitBackbone | ClipBackbone):
            return read_images(folder, split)
        pairs, labels = read_sentences(folder, split)
        if isinstance(backbone, DecoderBackbone):
            texts = [backbone.template.format(premise=premise, hypothesis=hypothesis) for premise, hypothesis in pairs]
            return encode_texts(self._tokenizer, texts, labels)
        return encode_pairs(self._tokenizer, pairs, labels)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        backbone = self.recipe.backbone
        assert isinstance(backbone, TextBackbone)
        return load_tokenizer(backbone, self._backbone)

    def head(self, task: str) -> Head:
        """A task's head: from pretraining, from class texts, or trained with its adapter."""
        backbone = self.recipe.backbone
        if isinstance(backbone, VitBackbone):
            return pretrained_head(self.inputs[BACKBONE].path, self.classes(task), backbone.temperature)
        if isinstance(backbone, ClipBackbone):
            return Head.read(self.inputs[HEADS].path / f"{task}.safetensors")
        return Head.read(self.inputs[f"adapter/{task}"].path / HEAD)

    def adapters(self, tasks: Sequence[str]) -> list[Adapter]:
        """The tasks' adapters."""
        return [Adapter.open(self.inputs[f"adapter/{task}"].path / ADAPTER) for task in tasks]

    def trials(self, tasks: Sequence[str], split: str) -> list[Trial]:
        """The tasks as they are measured."""
        return [Trial(task, self.examples(task, split), self.head(task), self.classes(task)) for task in tasks]

    def joint(self, trials: Sequence[Trial]) -> JointHead | None:
        """One head over all of these tasks' classes; none where heads were trained apart from one another."""
        return joint_head(trials) if isinstance(self.recipe.backbone, VitBackbone | ClipBackbone) else None

    def learning_tasks(
        self, tasks: Sequence[str], batch: int, objective: ClassifierObjective = "entropy"
    ) -> list[Task]:
        """What coefficients are learned on: the validation inputs of each task, with labels if the objective is."""
        make = self._labelled if objective == "cross-entropy" else self._unlabelled
        return [make(task, place, batch) for place, task in enumerate(tasks)]

    def _unlabelled(self, task: str, place: int, batch: int) -> Task:
        head, backbone = self.head(task), self.recipe.backbone
        if isinstance(backbone, ClipBackbone) and backbone.entropy_scale is not None:
            head = replace(head, scale=backbone.entropy_scale)
        data = self._rows(task, batch, lambda part: part.inputs)
        return Task(task, data, entropy(self.encoder.logits(head)), own=place)

    def _labelled(self, task: str, place: int, batch: int) -> Task:
        data = self._rows(task, batch, lambda part: (part.inputs, part.labels))
        return Task(task, data, cross_entropy(self.encoder.logits(self.head(task))), own=place)

    def _rows(self, task: str, batch: int, seen: Callable[[Examples], Any]) -> Rows:
        """The validation split in batches, of which the objective sees a part."""
        examples = self.examples(task, "validation")
        device = self.encoder.model.device

        def collate(numbers: Sequence[int]) -> Any:
            return seen(examples.at(numbers, device))

        return Rows(range(len(examples)), collate, batch_size=batch)
