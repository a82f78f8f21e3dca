"""The plan of a suite: data, backbone, adapters, tuning, merges, tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from prefdelta.learning.methods import get_learned
from prefdelta.merging.registry import get_method
from prefdelta.models import fingerprint
from prefdelta.pipeline.estimate import totals
from prefdelta.pipeline.identity import path_digest, portable
from prefdelta.pipeline.plan import Plan
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe.suite import (
    BertBackbone,
    ClipBackbone,
    DecoderBackbone,
    FileSource,
    LearnedMethod,
    MergeMethod,
    SuiteRecipe,
    SuiteTask,
    VitBackbone,
)
from prefdelta.store import Artifact, Store
from prefdelta.suite import comparing, stages
from prefdelta.suite.publish import publish_suite

AnyMethod = MergeMethod | LearnedMethod


class SuitePlan(Plan):
    """The units of a suite.

    Args:
        recipe: what to run.
        root: the run directory.

    Raises:
        PrefdeltaError: a merge method is unknown.
    """

    def __init__(self, recipe: SuiteRecipe, root: Path) -> None:
        self.recipe = recipe
        self.names = [task.name for task in recipe.tasks]
        self.kept = [name for name in self.names if name not in recipe.unseen]
        for method in recipe.methods:
            if isinstance(method, LearnedMethod):
                get_learned(method.learn)
            else:
                get_method(method.merge)
        self.units = [*self._data(), *self._backbone()]
        for seed in recipe.seeds:
            self.units += [self._adapter(task, seed) for task in recipe.tasks]
            self.units.append(self._references(seed))
        self.units += [self._tuning(method) for method in recipe.methods]
        for seed in recipe.seeds:
            for method in recipe.methods:
                self.units += self._merge(method, seed)
        self.units += self._preferences()

    def table(self) -> RenderableType:
        """The stages with their sizes."""
        table = Table("stage", "units", "optimiser steps", title=f"plan of {self.recipe.name!r}")
        for stage, (count, work) in totals(self.units).items():
            table.add_row(stage, f"{count:,}", f"{work.steps:,}" if work.steps else "-")
        table.add_section()
        table.add_row("all", f"{len(self.units):,}", f"{sum(unit.work.steps for unit in self.units):,}")
        return table

    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write ``results.json``, the table and, with a preference sweep, its picture."""
        return publish_suite(self.recipe, self.kept, store, artifacts)

    def _data(self) -> list[Unit]:
        return [self._task(task) for task in self.recipe.tasks]

    def _task(self, task: SuiteTask) -> Unit:
        recipe, backbone = self.recipe, self.recipe.backbone
        size = backbone.image_size if isinstance(backbone, VitBackbone | ClipBackbone) else None
        files = task.source.files if isinstance(task.source, FileSource) else ()
        return Unit(
            name=f"data/{task.name}",
            stage="data",
            config={"task": portable(task), "image_size": size, "backbone": backbone.type},
            inputs={},
            externals={name: partial(path_digest, str(Path(recipe.data).expanduser() / name)) for name in files},
            make=lambda work, inputs, bench: stages.write_task(work, recipe, task),
        )

    def _backbone(self) -> list[Unit]:
        recipe, backbone = self.recipe, self.recipe.backbone
        data = {f"data/{name}": f"data/{name}" for name in self.names}
        if isinstance(backbone, DecoderBackbone):
            return []
        if isinstance(backbone, ClipBackbone):
            return [
                Unit(
                    name="heads",
                    stage="heads",
                    config={"backbone": portable(backbone), "prompts": [task.prompt for task in recipe.tasks]},
                    inputs=data,
                    externals={"model": partial(fingerprint, backbone.model)},
                    make=lambda work, inputs, bench: stages.text_heads(work, inputs, recipe),
                )
            ]
        texts = backbone.texts if isinstance(backbone, BertBackbone) else ()
        return [
            Unit(
                name="backbone",
                stage="backbone",
                config={"backbone": portable(backbone), "seed": recipe.pretrain_seed},
                inputs=data,
                externals={name: partial(path_digest, str(Path(recipe.data).expanduser() / name)) for name in texts},
                make=lambda work, inputs, bench: stages.pretrain(work, inputs, recipe, bench.progress),
                work=Work(steps=backbone.training.steps),
                resumable=True,
            )
        ]

    def _world(self, seed: int | None) -> dict[str, str]:
        """The inputs of a unit that loads the backbone, and adapters of a seed."""
        made = {} if isinstance(self.recipe.backbone, DecoderBackbone) else {self._made: self._made}
        inputs = made | {f"data/{name}": f"data/{name}" for name in self.names}
        if seed is not None:
            inputs |= {f"adapter/{name}": f"adapters/{seed}/{name}" for name in self.names}
        return inputs

    @property
    def _made(self) -> str:
        return "heads" if isinstance(self.recipe.backbone, ClipBackbone) else "backbone"

    def _unit(
        self, name: str, inputs: Mapping[str, str], config: Mapping[str, Any], make: Callable[..., None], steps: int = 0
    ) -> Unit:
        """A unit that loads the backbone; it may be continued."""
        backbone = self.recipe.backbone
        externals: dict[str, Callable[[], str]] = {}
        if isinstance(backbone, ClipBackbone | DecoderBackbone):
            externals["model"] = partial(fingerprint, backbone.model)
        return Unit(
            name=name,
            stage=name.split("/")[0],
            config={"backbone": portable(backbone), **config},
            inputs=inputs,
            externals=externals,
            make=make,
            work=Work(steps=steps),
            resumable=True,
        )

    def _adapter(self, task: SuiteTask, seed: int) -> Unit:
        recipe = self.recipe

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            stages.train_task(work, inputs, recipe, task.name, seed, bench.progress)

        inputs = {
            label: name for label, name in self._world(None).items() if label in (self._made, f"data/{task.name}")
        }
        config = {"adapter": portable(recipe.adapter), "task": task.name, "seed": seed, "suite": recipe.name}
        return self._unit(f"adapters/{seed}/{task.name}", inputs, config, make, recipe.adapter.training.steps)

    def _references(self, seed: int) -> Unit:
        recipe = self.recipe

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            comparing.refer(work, inputs, recipe, bench.progress)

        config = {"tasks": self.names, "objectives": comparing.objectives(recipe)}
        return self._unit(f"references/{seed}", self._world(seed), config, make)

    def _tuning(self, method: AnyMethod) -> Unit:
        recipe, seed = self.recipe, self.recipe.seeds[0]

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            comparing.tune(work, inputs, recipe, method, bench.progress)

        inputs = self._world(seed) | {"references": f"references/{seed}"}
        steps = method.learning.steps * len(method.learning_rates) if isinstance(method, LearnedMethod) else 0
        config = {"method": portable(method), "tasks": self.names}
        return self._unit(f"tuning/{method.name}", inputs, config, make, steps)

    def _merge(self, method: AnyMethod, seed: int) -> list[Unit]:
        """The merge of all tasks and its test; the merge without the unseen tasks and its test on them."""
        units = self._merge_and_test("merges", "tests", method, seed, self.names, self.names)
        if self.recipe.unseen:
            units += self._merge_and_test("merges-seen", "unseen", method, seed, self.kept, list(self.recipe.unseen))
        return units

    def _merge_and_test(
        self, merges: str, tests: str, method: AnyMethod, seed: int, merged: list[str], tested: list[str]
    ) -> list[Unit]:
        recipe = self.recipe
        reuse = seed == recipe.seeds[0] and merged == self.names

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            comparing.make_merge(work, inputs, recipe, method, merged, bench.progress, reuse=reuse)

        def test(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            comparing.test_merge(work, inputs, recipe, method, tested)

        world = self._world(seed) | {"tuning": f"tuning/{method.name}", "references": f"references/{seed}"}
        config = {"method": portable(method), "merged": merged}
        steps = method.learning.steps if isinstance(method, LearnedMethod) and not reuse else 0
        name = f"{merges}/{seed}/{method.name}"
        return [
            self._unit(name, world, config, make, steps),
            self._unit(f"{tests}/{seed}/{method.name}", world | {"merge": name}, config | {"tested": tested}, test),
        ]

    def _preferences(self) -> list[Unit]:
        sweep = self.recipe.preference
        if sweep is None:
            return []
        (method,) = [method for method in self.recipe.methods if method.name == sweep.method]
        assert isinstance(method, LearnedMethod)
        return [self._preference(method, weight) for weight in sweep.weights]

    def _preference(self, method: LearnedMethod, weight: float) -> Unit:
        recipe, seed = self.recipe, self.recipe.seeds[0]

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            comparing.prefer(work, inputs, recipe, method, weight, bench.progress)

        world = self._world(seed) | {"tuning": f"tuning/{method.name}", "references": f"references/{seed}"}
        assert recipe.preference is not None
        config = {"method": portable(method), "task": recipe.preference.task, "weight": weight}
        return self._unit(f"preference/{weight:g}", world, config, make, method.learning.steps)
