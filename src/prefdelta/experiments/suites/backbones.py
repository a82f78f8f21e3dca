"""The unit that pretrains a suite's backbone, or makes CLIP's heads from class names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prefdelta.core.model_files import fingerprint
from prefdelta.experiments.suites.backbone.bert import neighbours, pretrain_bert
from prefdelta.experiments.suites.backbone.clip import write_text_heads
from prefdelta.experiments.suites.backbone.vit import pool_of, pretrain_vit
from prefdelta.experiments.suites.data.task import read_classes, read_images, read_sentences
from prefdelta.experiments.suites.suite_context import BACKBONE, HEADS, SuiteContext
from prefdelta.experiments.unit import Externals, Inputs, Make, RunContext, Unit, Work
from prefdelta.recipe.suite import BertBackbone, ClipBackbone, VitBackbone


def backbone_units(suite: SuiteContext) -> Iterator[Unit]:
    """One unit, or none: a pretrained model of text is used as it is."""
    backbone = suite.recipe.backbone
    if isinstance(backbone, VitBackbone):
        yield _vit(suite, backbone)
    elif isinstance(backbone, BertBackbone):
        yield _bert(suite, backbone)
    elif isinstance(backbone, ClipBackbone):
        yield _clip_heads(suite, backbone)


def _vit(suite: SuiteContext, backbone: VitBackbone) -> Unit:
    """The tasks' ``pretrain`` images -> a vision transformer and its class vectors."""

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        folders = [inputs[label].path for label in suite.data]
        pool, classes = pool_of([(read_classes(folder), read_images(folder, "pretrain")) for folder in folders])
        pretrain_vit(pool, classes, backbone, work, seed=suite.recipe.pretrain_seed, progress=context.progress)

    return _pretrained(suite, backbone, make)


def _bert(suite: SuiteContext, backbone: BertBackbone) -> Unit:
    """The tasks' ``pretrain`` sentence pairs and ``texts`` -> a text encoder."""

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        folders = [inputs[label].path for label in suite.data]
        pairs = [pair for folder in folders for pair in read_sentences(folder, "pretrain")[0]]
        for name in backbone.texts:
            pairs.extend(neighbours(suite.file(name).read_text(encoding="utf-8")))
        pretrain_bert(pairs, backbone, work, seed=suite.recipe.pretrain_seed, progress=context.progress)

    return _pretrained(suite, backbone, make, suite.file_externals(backbone.texts))


def _pretrained(
    suite: SuiteContext, backbone: VitBackbone | BertBackbone, make: Make, externals: Externals | None = None
) -> Unit:
    return Unit(
        name=BACKBONE,
        stage=BACKBONE,
        config={"backbone": backbone, "seed": suite.recipe.pretrain_seed},
        inputs=suite.data,
        externals=externals or {},
        make=make,
        work=Work(steps=backbone.training.steps),
        resumable=True,
    )


def _clip_heads(suite: SuiteContext, backbone: ClipBackbone) -> Unit:
    """Class names -> a head per task, by CLIP's text encoder."""
    tasks = suite.recipe.tasks

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        texts = {
            task.name: [task.prompt.format(name) for name in read_classes(inputs[f"data/{task.name}"].path)]
            for task in tasks
        }
        write_text_heads(work, backbone, texts)

    return Unit(
        name=HEADS,
        stage=HEADS,
        config={"backbone": backbone, "prompts": [task.prompt for task in tasks]},
        inputs=suite.data,
        externals={"model": partial(fingerprint, backbone.model)},
        make=make,
    )
