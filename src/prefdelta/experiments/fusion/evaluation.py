"""The units that evaluate: every model on validation and on test items."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from prefdelta.core.model_files import fingerprint
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.evaluation.benchmarks import Split
from prefdelta.experiments.evaluation import Exam, Subject, division_of_records, evaluate, evaluation_unit
from prefdelta.experiments.fusion.fusion_context import FusionContext
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.recipe import ModelRef


def of_student(fusion: FusionContext, split: Split, variant: str, adapter: str | None, seed: int) -> Unit:
    """The student, bare or with an adapter."""
    return _evaluation(fusion, split, f"{seed}/{variant}", None, adapter, seed)


def of_source(fusion: FusionContext, label: str, source: ModelRef) -> Unit:
    """A source, on the test items only, with the first seed's random numbers."""
    return _evaluation(fusion, "test", f"sources/{label}", source, None, fusion.recipe.seeds[0])


def _evaluation(
    fusion: FusionContext, split: Split, name: str, source: ModelRef | None, adapter: str | None, seed: int
) -> Unit:
    recipe = fusion.recipe
    sampling = recipe.evaluation_sampling or recipe.sampling.model_copy(update={"n": 1})
    model, exam = source or recipe.student, Exam(recipe.benchmarks, sampling, recipe.search, split, seed)

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        folder = inputs["adapter"].path if adapter else None
        evaluate(work, context, Subject(source or fusion.student.ref, folder), exam, shard=shard)

    unit = evaluation_unit(
        f"{split}/{name}",
        exam,
        model,
        config={"model": model, "seed": seed},
        inputs={**({"adapter": adapter} if adapter else {}), **(fusion.student.inputs if source is None else {})},
        weights=fusion.student.externals() if source is None else {"source": partial(fingerprint, source)},
        times=1,
        make=make,
    )
    return replace(unit, division=division_of_records(model, exam, make))
