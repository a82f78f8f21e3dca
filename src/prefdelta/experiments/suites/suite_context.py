"""What all units of a suite have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefdelta.core.files import expanded
from prefdelta.core.model_files import fingerprint
from prefdelta.experiments.identity import path_digest
from prefdelta.experiments.unit import Externals, Make, Unit, Work
from prefdelta.recipe.suite import (
    BertBackbone,
    ClipBackbone,
    DecoderBackbone,
    EncoderBackbone,
    SuiteRecipe,
    VitBackbone,
)

BACKBONE = "backbone"
HEADS = "heads"


class SuiteContext:
    """A suite's recipe, the names of its tasks, and how the units that load its backbone are put together.

    Args:
        recipe: the suite.

    Attributes:
        recipe: as given.
        names: the names of all tasks, in the recipe's order.
        kept: those whose adapters are merged where the unseen tasks are left out.
        backbone_unit: the name of the unit that pretrains the backbone or makes its heads; ``None`` for a pretrained
            model of text, which needs neither.
    """

    def __init__(self, recipe: SuiteRecipe) -> None:
        self.recipe = recipe
        self.names = [task.name for task in recipe.tasks]
        self.kept = [name for name in self.names if name not in recipe.unseen]
        self.backbone_unit: str | None = BACKBONE
        if isinstance(recipe.backbone, ClipBackbone):
            self.backbone_unit = HEADS
        elif isinstance(recipe.backbone, DecoderBackbone | EncoderBackbone):
            self.backbone_unit = None

    @property
    def base_name(self) -> str:
        """What adapters name as their base model: a model's own name, or the suite whose backbone it is."""
        backbone = self.recipe.backbone
        if isinstance(backbone, VitBackbone | BertBackbone):
            return f"{self.recipe.name}-backbone"
        return backbone.model.path

    @property
    def data(self) -> dict[str, str]:
        """The data of all tasks, as inputs of a unit."""
        return {f"data/{name}": f"data/{name}" for name in self.names}

    def inputs(self, seed: int) -> dict[str, str]:
        """The inputs of a unit that loads the backbone, the data of all tasks and the adapters of a seed."""
        made = {} if self.backbone_unit is None else {self.backbone_unit: self.backbone_unit}
        return made | self.data | {f"adapter/{name}": f"adapters/{seed}/{name}" for name in self.names}

    def file(self, name: str) -> Path:
        """A file under the recipe's data root."""
        return expanded(self.recipe.data) / name

    def file_externals(self, names: tuple[str, ...]) -> Externals:
        """The hashes of files under the data root, by name."""
        return {name: partial(path_digest, str(self.file(name))) for name in names}

    def unit(
        self, name: str, *, config: Mapping[str, Any], inputs: Mapping[str, str], make: Make, steps: int = 0
    ) -> Unit:
        """A resumable unit that loads the backbone; its stage is the first part of its name."""
        backbone = self.recipe.backbone
        externals: dict[str, Callable[[], str]] = {}
        if not isinstance(backbone, VitBackbone | BertBackbone):
            externals["model"] = partial(fingerprint, backbone.model)
        return Unit(
            name=name,
            stage=name.split("/")[0],
            config={"backbone": backbone, **config},
            inputs=inputs,
            externals=externals,
            make=make,
            work=Work(steps=steps),
            resumable=True,
        )
