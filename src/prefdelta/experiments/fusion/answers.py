"""The unit that lets the student of a fusion answer, bare or with an adapter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefdelta.adapters.applied import applied
from prefdelta.core.records import Item, read_rows
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.experiments.answers import PROMPTS, answered, division_of_answers, write_responses
from prefdelta.experiments.fusion.fusion_context import FusionContext
from prefdelta.experiments.identity import corpus_externals
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.responses import sample_responses
from prefdelta.merging.baking import apply_adapter
from prefdelta.recipe import ModelRef


def own_responses(
    fusion: FusionContext, name: str, questions: str, adapter: str | None, *, seed: int, count: int
) -> Unit:
    """The student's own answers, bare or with an adapter, to the prompts of the artifact ``questions``."""
    recipe, student = fusion.recipe, fusion.student.ref

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        items, search = read_rows(inputs["prompts"].path / PROMPTS, Item), recipe.search
        sampling = recipe.sampling.model_copy(update={"seed": seed})
        if adapter is None:
            write_responses(work, items, context, student, sampling, search, shard)
        elif student.engine == "vllm":
            with merged_student(work, student, inputs["adapter"].path) as model:
                write_responses(work, items, context, model, sampling, search, shard)
        else:
            with applied(context.model(student), inputs["adapter"].path, 1.0) as loaded:
                sampler = TransformersSampler(loaded, recipe.sampling, context.environment(search))
                sample_responses(items, sampler, work, seed, sampling.n, context.progress, shard)

    return Unit(
        f"responses/{name}",
        "responses",
        config={"sampling": recipe.sampling, "search": recipe.search, "seed": seed, "student": recipe.student},
        inputs={"prompts": questions, **({"adapter": adapter} if adapter else {}), **fusion.student.inputs},
        externals={**fusion.student.externals(), **corpus_externals(recipe.search)},
        make=make,
        work=answered(recipe.student, count, recipe.prompts, recipe.sampling, recipe.search),
        resumable=True,
        division=division_of_answers(recipe.student, count, recipe.sampling, make),
    )


@contextmanager
def merged_student(work: Path, student: ModelRef, adapter: Path) -> Iterator[ModelRef]:
    """The student with an adapter baked in, in a folder that is gone afterwards: for engines that take whole models.

    The weights are rounded to the student's number format, as they are in every merged checkpoint.
    """
    folder = work / "merged"
    apply_adapter(student, adapter, folder, overwrite=True)
    yield student.model_copy(update={"path": str(folder), "revision": None})
    shutil.rmtree(folder)
