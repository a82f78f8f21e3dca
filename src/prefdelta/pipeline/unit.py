"""A unit of work: a plain function from artifacts to one artifact, with what is needed to plan, skip and resume it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from prefdelta.models import LoadedModel, load
from prefdelta.pipeline.identity import portable
from prefdelta.recipe import ModelRef, Search
from prefdelta.retrieval import open_retriever
from prefdelta.search import Environment
from prefdelta.store import Artifact

Progress = Callable[[int, int], None]
"""Called with (done, total) of the unit at work."""

Externals = Mapping[str, Callable[[], str]]
"""Label -> hash of something outside the run directory (weights, a file), computed when asked."""

_RESUMABLE = ("responses", "scores", "adapters", "validation", "test", "watch")
"""The stages that keep what they have done as they go."""


class Workbench:
    """What units share while a run lasts: one loaded model at a time, the search indexes, the progress display.

    Units are otherwise free of state; a unit gives the same artifact on a fresh workbench.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress: Progress = progress or (lambda done, total: None)
        self._model: tuple[ModelRef, LoadedModel] | None = None
        self._environments: dict[Search, Environment] = {}

    def model(self, ref: ModelRef) -> LoadedModel:
        """The model of a reference; loading another one lets go of the last."""
        if self._model is None or self._model[0] != ref:
            self.release()
            self._model = (ref, load(ref))
        return self._model[1]

    def release(self) -> None:
        """Let go of the loaded model and of the memory that it took."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def environment(self, search: Search | None) -> Environment | None:
        """The search environment of a recipe's settings; its corpus is indexed once."""
        if search is None:
            return None
        if search not in self._environments:
            self._environments[search] = Environment(open_retriever(search), search)
        return self._environments[search]


Make = Callable[[Path, Mapping[str, Artifact], Workbench], None]
"""Writes an artifact's files: called with the working folder, the inputs by label, and what units share."""


@dataclass(frozen=True)
class Work:
    """How much a unit does, for the plan: answers sampled, answers scored, optimiser steps, bytes written."""

    samples: int = 0
    scores: int = 0
    steps: int = 0
    disk: int = 0


@dataclass(frozen=True)
class Unit:
    """One artifact to be made.

    Attributes:
        name: where the artifact lies in the run directory.
        stage: the stage it belongs to.
        config: all settings that decide its content, as plain values without machine paths.
        inputs: label -> name of the artifact that is read.
        externals: label -> hash of something outside the run directory (weights, a file), computed when asked.
        make: writes the artifact's files into a working folder.
        work: its size, for estimates.
        resumable: ``make`` continues from what a killed build left in the working folder; others start afresh.
    """

    name: str
    stage: str
    config: Any
    inputs: Mapping[str, str]
    make: Make
    externals: Externals = field(default_factory=dict)
    work: Work = Work()
    resumable: bool = False


def stage_unit(
    name: str,
    *,
    config: Any,
    make: Make,
    inputs: Mapping[str, str] | None = None,
    externals: Externals | None = None,
    work: Work | None = None,
    root: str = "",
) -> Unit:
    """A unit whose stage is the first part of its name; the stage decides whether it is resumable.

    Args:
        name: where the artifact lies in ``root``.
        config: the settings that decide its content; they are made portable here.
        make: as in :class:`Unit`.
        inputs: as in :class:`Unit`.
        externals: as in :class:`Unit`.
        work: as in :class:`Unit`.
        root: a folder of the run directory, where the name is not of the run directory itself.
    """
    stage = name.split("/")[0]
    return Unit(
        name=f"{root}/{name}" if root else name,
        stage=stage,
        config=portable(config),
        inputs=inputs or {},
        externals=externals or {},
        make=make,
        work=work or Work(),
        resumable=stage in _RESUMABLE,
    )
