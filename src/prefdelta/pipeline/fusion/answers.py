"""The units that make answers and score them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefdelta.pipeline import stages
from prefdelta.pipeline.fusion.stages import write_own_responses
from prefdelta.pipeline.fusion.world import World
from prefdelta.pipeline.identity import file_externals, scoring_externals, source_config, source_externals
from prefdelta.pipeline.unit import Unit, Work, Workbench, stage_unit
from prefdelta.recipe import Imported
from prefdelta.store import Artifact

_ANSWER_BYTES = 2048


def prompts(world: World) -> Unit:
    """The questions."""
    recipe = world.recipe
    return stage_unit(
        "prompts",
        config={"prompts": recipe.prompts, "protocol": recipe.search.protocol if recipe.search else None},
        externals=file_externals(recipe.prompts.source),
        make=lambda work, inputs, bench: stages.write_prompts(work, recipe.prompts, recipe.search),
    )


def source_responses(world: World, label: str) -> Unit:
    """A source's answers to all prompts."""
    recipe, source = world.recipe, world.sources[label]
    count = recipe.prompts.count * recipe.sampling.n

    def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
        questions = inputs["prompts"].path / stages.PROMPTS
        stages.write_responses(work, questions, bench, source, recipe.sampling, recipe.search)

    imported = isinstance(source, Imported)
    drawn = {} if imported else {"sampling": recipe.sampling, "search": recipe.search}
    return stage_unit(
        f"responses/sources/{label}",
        config={"source": source_config(source), **drawn},
        inputs={"prompts": "prompts"},
        externals={**source_externals(source), **({} if imported else world.corpus())},
        make=make,
        work=Work(samples=0 if imported else count, disk=count * _ANSWER_BYTES),
    )


def own_responses(world: World, name: str, questions: str, adapter: str | None, *, seed: int, count: int) -> Unit:
    """The student's own answers, bare or with an adapter, to the prompts of the artifact ``questions``."""
    recipe = world.recipe

    def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
        asked = inputs["prompts"].path / stages.PROMPTS
        start = inputs["adapter"].path if adapter else None
        write_own_responses(work, asked, bench, world.student, start, recipe.sampling, recipe.search, seed)

    return stage_unit(
        f"responses/{name}",
        config={"sampling": recipe.sampling, "search": recipe.search, "seed": seed, "student": recipe.student},
        inputs={"prompts": questions, **({"adapter": adapter} if adapter else {}), **world.base},
        externals={**world.weights(), **world.corpus()},
        make=make,
        work=Work(samples=count * recipe.sampling.n, disk=count * recipe.sampling.n * _ANSWER_BYTES),
    )


def scores(world: World, name: str, label: str, questions: str, *, count: int) -> Unit:
    """The scores of the answers ``responses/NAME``; ``label`` is what a file of scores calls who gave them."""
    scoring = world.recipe.scoring

    def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
        asked = inputs["prompts"].path / stages.PROMPTS
        stages.write_scores(work, asked, inputs["responses"].path / stages.RESPONSES, bench, scoring, label)

    answers = count * world.recipe.sampling.n
    return stage_unit(
        f"scores/{name}",
        config={"scoring": scoring, "label": label},
        inputs={"prompts": questions, "responses": f"responses/{name}"},
        externals=scoring_externals(scoring, label),
        make=make,
        work=Work(scores=answers, disk=answers * 64),
    )
