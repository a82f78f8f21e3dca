"""What each stage of a suite does with its artifacts, up to the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.identity import seed_from
from prefdelta.recipe.suite import BertBackbone, ClipBackbone, FileSource, SuiteRecipe, SuiteTask, VitBackbone
from prefdelta.store import Artifact
from prefdelta.suite.adapters import train_adapter
from prefdelta.suite.backbone.bert import neighbours, pretrain_bert
from prefdelta.suite.backbone.clip import write_text_heads
from prefdelta.suite.backbone.vit import pool_of, pretrain_vit
from prefdelta.suite.data.hub import read_hub
from prefdelta.suite.data.images import IMAGE_READERS
from prefdelta.suite.data.rows import Row
from prefdelta.suite.data.sentences import SENTENCE_READERS
from prefdelta.suite.data.splits import split
from prefdelta.suite.data.task import read_classes, read_images, read_sentences, write_images, write_sentences
from prefdelta.suite.loop import Progress
from prefdelta.suite.world import World

Inputs = Mapping[str, Artifact]


def write_task(work: Path, recipe: SuiteRecipe, task: SuiteTask) -> None:
    """A task's source -> its splits."""
    rows = [_renamed(row, task) for row in _rows(recipe, task)]
    limits = {name: count for name, count in task.limits.model_dump().items() if count is not None}
    splits = split(rows, limits)
    backbone = recipe.backbone
    images = isinstance(backbone, VitBackbone | ClipBackbone)
    if any(isinstance(row.content, tuple) == images for row in rows):
        raise PrefdeltaError(f"task {task.name!r}: a backbone of type {backbone.type!r} cannot read this source.")
    if isinstance(backbone, VitBackbone):
        write_images(work, splits, backbone.image_size)
    elif isinstance(backbone, ClipBackbone):
        write_images(work, splits, backbone.image_size, crop=True)
    else:
        write_sentences(work, splits)


def pretrain(work: Path, inputs: Inputs, recipe: SuiteRecipe, progress: Progress) -> None:
    """The tasks' ``pretrain`` splits -> a backbone."""
    folders = [inputs[f"data/{task.name}"].path for task in recipe.tasks]
    backbone = recipe.backbone
    if isinstance(backbone, VitBackbone):
        pool = pool_of([(read_classes(folder), read_images(folder, "pretrain")) for folder in folders])
        pretrain_vit(pool, backbone, work, seed=recipe.pretrain_seed, progress=progress)
        return
    assert isinstance(backbone, BertBackbone)
    pairs = [pair for folder in folders for pair in read_sentences(folder, "pretrain").pairs]
    for name in backbone.texts:
        pairs.extend(neighbours(_under(recipe, name).read_text(encoding="utf-8")))
    pretrain_bert(pairs, backbone, work, seed=recipe.pretrain_seed, progress=progress)


def text_heads(work: Path, inputs: Inputs, recipe: SuiteRecipe) -> None:
    """Class names -> heads, by CLIP's text encoder."""
    assert isinstance(recipe.backbone, ClipBackbone)
    texts = {
        task.name: [task.prompt.format(name) for name in read_classes(inputs[f"data/{task.name}"].path)]
        for task in recipe.tasks
    }
    write_text_heads(work, recipe.backbone, texts)


def train_task(work: Path, inputs: Inputs, recipe: SuiteRecipe, task: str, seed: int, progress: Progress) -> None:
    """A task's training split -> its LoRA, and its head."""
    world = World(recipe, inputs)
    given = isinstance(recipe.backbone, VitBackbone | ClipBackbone)
    train_adapter(
        world.encoder,
        world.examples(task, "train"),
        world.head(task) if given else len(world.classes(task)),
        recipe.adapter,
        work,
        base=base_name(recipe),
        seed=seed_from(seed, task),
        progress=progress,
    )


def base_name(recipe: SuiteRecipe) -> str:
    """What adapters name as their base model: a model's own name, or the suite whose backbone it is."""
    backbone = recipe.backbone
    return f"{recipe.name}-backbone" if isinstance(backbone, VitBackbone | BertBackbone) else backbone.model.path


def source_files(recipe: SuiteRecipe) -> list[Path]:
    """The files under the data root that a recipe reads."""
    names = [name for task in recipe.tasks if isinstance(task.source, FileSource) for name in task.source.files]
    names += recipe.backbone.texts if isinstance(recipe.backbone, BertBackbone) else []
    return [_under(recipe, name) for name in dict.fromkeys(names)]


def _rows(recipe: SuiteRecipe, task: SuiteTask) -> list[Row]:
    source = task.source
    if not isinstance(source, FileSource):
        return read_hub(source)
    readers: Mapping[str, Any] = {**IMAGE_READERS, **SENTENCE_READERS}
    return list(readers[source.format]([_under(recipe, name) for name in source.files]))


def _renamed(row: Row, task: SuiteTask) -> Row:
    if task.class_names is None:
        return row
    try:
        return Row(row.content, task.class_names[row.label], row.group, row.part)
    except KeyError:
        raise PrefdeltaError(f"task {task.name!r}: class_names has no name for the label {row.label!r}.") from None


def _under(recipe: SuiteRecipe, name: str) -> Path:
    return Path(recipe.data).expanduser() / name
