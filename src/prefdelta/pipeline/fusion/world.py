"""What all units of a fusion have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.models import fingerprint
from prefdelta.pipeline.domain import STUDENT
from prefdelta.pipeline.identity import file_externals, portable, source_label
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe import AnySource, ModelRef
from prefdelta.recipe.fusion import FusionRecipe
from prefdelta.store import Artifact

SFT = "sft"
_RESUMABLE = ("responses", "scores", "adapters", "validation", "test")

Make = Callable[[Path, Mapping[str, Artifact], Workbench], None]
Externals = Mapping[str, Callable[[], str]]


class World:
    """A fusion's recipe, models and sizes, and how its units are put together.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        recipe: as given.
        student: the student as a Hugging Face model; its path lies in the run directory if it had to be converted.
        sources: the source models, servers or files of answers, by label.
        cache: where reference log-probabilities are kept; not an artifact, it may be deleted at any time.
        base: the converted student as an input, if there is one.

    Raises:
        PrefdeltaError: two sources have one name.
    """

    def __init__(self, recipe: FusionRecipe, root: Path) -> None:
        self.recipe = recipe
        self.student = recipe.student
        self.cache = root / ".cache" / "reference"
        self.base: dict[str, str] = {}
        if recipe.student.format != "huggingface":
            self.student = ModelRef(path=str(root / STUDENT / "model"), dtype=recipe.student.dtype)
            self.base = {STUDENT: STUDENT}
        self.sources: dict[str, AnySource] = {}
        for source in recipe.sources:
            label = source_label(source)
            if label in self.sources:
                raise PrefdeltaError(f"two sources are called {label!r}; rename a folder so that they differ.")
            self.sources[label] = source

    @property
    def shown(self) -> int:
        """How many prompts the student is fine-tuned on."""
        return round(self.recipe.sft_share * self.recipe.prompts.count)

    @property
    def left(self) -> int:
        """How many prompts are left for the preference."""
        return self.recipe.prompts.count - self.shown

    @property
    def answers(self) -> dict[str, str]:
        """All sources' answers and scores, as inputs."""
        return {
            f"{what} of {label}": f"{what}/sources/{label}"
            for label in self.sources
            for what in ("responses", "scores")
        }

    def corpus(self) -> Externals:
        """What the search corpus contributes to a key."""
        return file_externals(self.recipe.search.corpus, "corpus") if self.recipe.search else {}

    def weights(self) -> Externals:
        """What the student's weights contribute to a key; a converted student is an input instead."""
        return {} if self.base else {"student": partial(fingerprint, self.recipe.student)}

    def unit(
        self,
        name: str,
        *,
        config: Mapping[str, Any],
        make: Make,
        inputs: Mapping[str, str] | None = None,
        externals: Externals | None = None,
        work: Work | None = None,
    ) -> Unit:
        """A unit; the first part of its name is its stage."""
        stage = name.split("/")[0]
        return Unit(
            name=name,
            stage=stage,
            config=portable(config),
            inputs=inputs or {},
            externals=externals or {},
            make=make,
            work=work or Work(),
            resumable=stage in _RESUMABLE,
        )
