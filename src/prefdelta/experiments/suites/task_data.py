"""The unit that reads a task's source and splits it."""

from __future__ import annotations

import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefdelta.core.compression import DAMAGED
from prefdelta.core.errors import PrefdeltaError, told_of
from prefdelta.experiments.identity import file_externals
from prefdelta.experiments.suites.data.hub import read_hub
from prefdelta.experiments.suites.data.images import IMAGE_READERS
from prefdelta.experiments.suites.data.rows import Row
from prefdelta.experiments.suites.data.sentences import SENTENCE_READERS
from prefdelta.experiments.suites.data.splits import split
from prefdelta.experiments.suites.data.task import write_images, write_sentences
from prefdelta.experiments.suites.suite_context import SuiteContext
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.recipe.suite import ClipBackbone, HubSource, SuiteTask, VitBackbone

_NOT_OF_ITS_FORMAT = (OSError, ValueError, LookupError, struct.error, tarfile.TarError, zipfile.BadZipFile, *DAMAGED)
"""What a reader raises of a file that is not what the recipe says."""


def task_data(suite: SuiteContext, task: SuiteTask) -> Unit:
    """A task's source -> its splits, as tensors of images or as sentence pairs."""
    backbone, source = suite.recipe.backbone, task.source
    externals = (
        file_externals(source.data_dir or "", "data")
        if isinstance(source, HubSource)
        else suite.file_externals(source.files)
    )
    images = isinstance(backbone, VitBackbone | ClipBackbone)

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        with told_of(f"task {task.name!r}"):
            rows = [_renamed(row, task) for row in _rows(suite, task)]
            if any(isinstance(row.content, tuple) == images for row in rows):
                raise PrefdeltaError(f"a backbone of type {backbone.type!r} cannot read this source.")
            splits = split(rows, {name: count for name, count in task.limits.model_dump().items() if count is not None})
            if lacking := [name for name in ("train", "validation", "test") if not splits[name]]:
                raise PrefdeltaError(f"no example is left for the {lacking[0]} split; give a larger source.")
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
        externals=externals,
        make=make,
    )


def _rows(suite: SuiteContext, task: SuiteTask) -> list[Row]:
    source = task.source
    if isinstance(source, HubSource):
        return read_hub(source)
    readers: Mapping[str, Any] = {**IMAGE_READERS, **SENTENCE_READERS}
    try:
        return list(readers[source.format]([suite.file(name) for name in source.files]))
    except _NOT_OF_ITS_FORMAT as error:
        raise PrefdeltaError(f"cannot read {', '.join(source.files)} as {source.format!r}: {error}.") from error


def _renamed(row: Row, task: SuiteTask) -> Row:
    if task.class_names is None:
        return row
    try:
        return Row(row.content, task.class_names[row.label], row.group, row.part)
    except KeyError:
        raise PrefdeltaError(f"class_names has no name for the label {row.label!r}.") from None
