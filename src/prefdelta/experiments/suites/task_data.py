"""The unit that reads a task's source and splits it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.suites.data.hub import read_hub
from prefdelta.experiments.suites.data.images import IMAGE_READERS
from prefdelta.experiments.suites.data.rows import Row
from prefdelta.experiments.suites.data.sentences import SENTENCE_READERS
from prefdelta.experiments.suites.data.splits import split
from prefdelta.experiments.suites.data.task import write_images, write_sentences
from prefdelta.experiments.suites.suite_context import SuiteContext
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.recipe.suite import ClipBackbone, FileSource, SuiteTask, VitBackbone


def task_data(suite: SuiteContext, task: SuiteTask) -> Unit:
    """A task's source -> its splits, as tensors of images or as sentence pairs."""
    backbone = suite.recipe.backbone
    images = isinstance(backbone, VitBackbone | ClipBackbone)

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        rows = [_renamed(row, task) for row in _rows(suite, task)]
        splits = split(rows, {name: count for name, count in task.limits.model_dump().items() if count is not None})
        if any(isinstance(row.content, tuple) == images for row in rows):
            raise PrefdeltaError(f"task {task.name!r}: a backbone of type {backbone.type!r} cannot read this source.")
        if isinstance(backbone, VitBackbone | ClipBackbone):
            write_images(work, splits, backbone.image_size, crop=isinstance(backbone, ClipBackbone))
        else:
            write_sentences(work, splits)

    return Unit(
        name=f"data/{task.name}",
        stage="data",
        config={
            "task": task,
            "image_size": backbone.image_size if isinstance(backbone, VitBackbone | ClipBackbone) else None,
            "backbone": backbone.type,
        },
        inputs={},
        externals=suite.file_externals(task.source.files if isinstance(task.source, FileSource) else ()),
        make=make,
    )


def _rows(suite: SuiteContext, task: SuiteTask) -> list[Row]:
    source = task.source
    if not isinstance(source, FileSource):
        return read_hub(source)
    readers: Mapping[str, Any] = {**IMAGE_READERS, **SENTENCE_READERS}
    return list(readers[source.format]([suite.file(name) for name in source.files]))


def _renamed(row: Row, task: SuiteTask) -> Row:
    if task.class_names is None:
        return row
    try:
        return Row(row.content, task.class_names[row.label], row.group, row.part)
    except KeyError:
        raise PrefdeltaError(f"task {task.name!r}: class_names has no name for the label {row.label!r}.") from None
