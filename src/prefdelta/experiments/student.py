"""The student of a run: as it came, or converted from another format first."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prefdelta.core.files import expanded
from prefdelta.core.llama2c import convert_llama2c
from prefdelta.core.model_files import fingerprint
from prefdelta.core.reference import VllmOptions
from prefdelta.experiments.identity import path_digest
from prefdelta.experiments.unit import Externals, Unit
from prefdelta.recipe import ModelRef

STUDENT = "student"


class Student:
    """The student as a Hugging Face model, wherever the recipe has it from.

    Args:
        given: what the recipe names.
        root: the run directory.

    Attributes:
        given: as given.
        ref: the model to load; it is in the run directory if it has to be converted.
        cache: where its reference log-probabilities are kept; not an artifact, it may be deleted at any time.
        units: the conversion, if there is one.
        inputs: the converted student as an input of a unit, if there is one.
    """

    def __init__(self, given: ModelRef, root: Path) -> None:
        self.given = given
        self.ref = given
        self.cache = root / ".cache" / "reference"
        self.units: list[Unit] = []
        self.inputs: dict[str, str] = {}
        if given.format != "huggingface":
            converted = {"path": str(root / STUDENT / "model"), "format": "huggingface"}
            self.ref = given.model_copy(update=converted)
            self.units = [_conversion(given)]
            self.inputs = {STUDENT: STUDENT}

    @property
    def trained(self) -> ModelRef:
        """What a training depends on: not what draws the student's answers."""
        return self.given.model_copy(update={"engine": "transformers", "vllm": VllmOptions()})

    def externals(self) -> Externals:
        """What its weights contribute to a key; a converted student is an input instead."""
        return {} if self.inputs else {STUDENT: partial(fingerprint, self.given)}


def _conversion(given: ModelRef) -> Unit:
    return Unit(
        name=STUDENT,
        stage="convert",
        config={"format": given.format},
        inputs={},
        externals={"checkpoint": partial(path_digest, given.path)},
        make=lambda work, inputs, context: convert_llama2c(expanded(given.path), work / "model"),
    )
