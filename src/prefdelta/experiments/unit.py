"""A unit of work: a plain function from artifacts to one artifact, with what is needed to plan, skip and resume it."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prefdelta.core.shard import WHOLE, Shard
from prefdelta.core.store import Artifact
from prefdelta.experiments.identity import portable
from prefdelta.recipe import ModelRef, Search

if TYPE_CHECKING:
    from prefdelta.agent import Environment
    from prefdelta.core.models import LoadedModel
    from prefdelta.experiments.load import Load
    from prefdelta.generation.vllm import VllmProcess

Progress = Callable[[int, int], None]
"""Called with (done, total) of the unit at work."""

Externals = Mapping[str, Callable[[], str]]
"""Label -> hash of something outside the run directory (weights, a file), computed when asked."""


class RunContext:
    """What units share while a run lasts: one model or engine at a time, the search indexes, the progress display.

    ``tell`` says a sentence to the user. Units are otherwise free of state; a unit gives the same artifact on a fresh
    context.
    """

    def __init__(self, progress: Progress | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.progress: Progress = progress or (lambda done, total: None)
        self.tell = tell or (lambda sentence: None)
        self._model: tuple[ModelRef, LoadedModel] | None = None
        self._engine: tuple[ModelRef, VllmProcess] | None = None
        self._open = ExitStack()
        self._environments: dict[Search, Environment] = {}

    def model(self, ref: ModelRef) -> LoadedModel:
        """The model of a reference; loading another one lets go of the last."""
        from prefdelta.core.models import load  # here, as many units need no torch

        if self._model is None or self._model[0] != ref:
            self.release()
            self._model = (ref, load(ref))
        return self._model[1]

    def engine(self, ref: ModelRef, rank: int) -> VllmProcess:
        """vLLM's engine with the model of a reference, for adapters up to ``rank``.

        It goes on from unit to unit, until another model is loaded or a larger rank is asked for.

        Raises:
            PrefdeltaError: the engine does not come up.
        """
        from prefdelta.generation.vllm import VllmProcess

        if self._engine is None or self._engine[0] != ref or (self._engine[1].rank or 0) < rank:
            self.release()
            handle, name = tempfile.mkstemp(prefix="prefdelta-vllm-", suffix=".log")
            os.close(handle)
            self._engine = (ref, self._open.enter_context(VllmProcess(ref, Path(name), rank=rank)))
        return self._engine[1]

    def release(self) -> None:
        """Let go of the loaded model or engine, and of the memory that it took."""
        self._engine = None
        self._open.close()
        if self._model is None:
            return
        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def environment(self, search: Search | None) -> Environment | None:
        """The search environment of a recipe's settings; its corpus is indexed once."""
        if search is None:
            return None
        from prefdelta.agent import Environment

        if search not in self._environments:
            self._environments[search] = Environment.open(search)
        return self._environments[search]


Inputs = Mapping[str, Artifact]
"""Label -> artifact."""

Make = Callable[[Path, Inputs, RunContext], None]
"""Writes an artifact's files: called with the working folder, the inputs by label, and what units share."""


class MakeShard(Protocol):
    """:data:`Make` of a part of a unit's requests; without ``shard``, of all of them."""

    def __call__(self, work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        """Write the artifact's files."""
        ...


@dataclass(frozen=True)
class Division:
    """How a unit can be divided into shards.

    Attributes:
        groups: how many groups of requests it has; no group is divided, so there are at most so many shards.
        make: writes the files of one shard; those of all shards, joined in order, are those of the undivided unit.
    """

    groups: int
    make: MakeShard


@dataclass(frozen=True)
class Work:
    """How much a unit does, for the plan: answers sampled, answers scored, optimiser steps, bytes written.

    ``load`` is what it asks of models, for the hours.
    """

    samples: int = 0
    scores: int = 0
    steps: int = 0
    disk: int = 0
    load: tuple[Load, ...] = ()

    def __add__(self, other: Work) -> Work:
        """Both."""
        return Work(
            self.samples + other.samples,
            self.scores + other.scores,
            self.steps + other.steps,
            self.disk + other.disk,
            self.load + other.load,
        )


@dataclass(frozen=True)
class Unit:
    """One artifact to be made.

    Attributes:
        name: where the artifact is in the run directory.
        stage: the stage it belongs to.
        config: all settings that decide its content; kept as plain values, without this machine's paths.
        inputs: label -> name of the artifact that is read.
        externals: label -> hash of something outside the run directory (weights, a file), computed when asked.
        make: writes the artifact's files into a working folder.
        reads: files and folders of the user's that it reads, which its artifact must not replace.
        work: its size, for estimates.
        resumable: ``make`` continues from what a killed build left in the working folder; others start afresh.
        division: how it can be divided into shards, if it can.
        shards: the units that it is divided into. They are no part of what decides its content: ``make`` finds their
            artifacts among its inputs, by name, and they are made only where its own artifact is missing.
    """

    name: str
    stage: str
    config: Any
    inputs: Mapping[str, str]
    make: Make
    externals: Externals = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    work: Work = Work()
    resumable: bool = False
    division: Division | None = None
    shards: tuple[Unit, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", portable(self.config))
