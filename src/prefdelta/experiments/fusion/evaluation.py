"""The units that evaluate: every model on validation and on test items."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prefdelta.core.model_files import fingerprint
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.evaluation.benchmarks import Split
from prefdelta.experiments.evaluation import Exam, Subject, division_of_records, evaluate, evaluation_unit
from prefdelta.experiments.fusion.fusion_context import FusionContext
from prefdelta.experiments.load import evaluated
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
    asked = [
        (benchmark, benchmark.validation if split == "validation" else benchmark.test)
        for benchmark in recipe.benchmarks
    ]

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        model = fusion.student.ref if source is None else source
        folder = inputs["adapter"].path if adapter else None
        exam = Exam(recipe.benchmarks, sampling, recipe.search, split, seed)
        evaluate(work, context, Subject(model, folder), exam, shard=shard)

    return evaluation_unit(
        f"{split}/{name}",
        split,
        config={"model": source or recipe.student, "seed": seed},
        inputs={**({"adapter": adapter} if adapter else {}), **(fusion.student.inputs if source is None else {})},
        weights=fusion.student.externals() if source is None else {"source": partial(fingerprint, source)},
        benchmarks=recipe.benchmarks,
        sampling=sampling,
        search=recipe.search,
        samples=sum(items for _, items in asked),
        make=make,
        load=evaluated(source or recipe.student, asked, sampling, recipe.search, 1),
        division=division_of_records(source or recipe.student, asked, sampling, make),
    )
