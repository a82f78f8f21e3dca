"""The units that divide the prompts, choose answers by their scores, and train on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from prefdelta.pipeline import stages
from prefdelta.pipeline.estimate import lora_bytes
from prefdelta.pipeline.fusion import stages as fusion_stages
from prefdelta.pipeline.fusion.world import SFT, World
from prefdelta.pipeline.identity import portable, seed_from, source_config
from prefdelta.pipeline.student import STUDENT
from prefdelta.pipeline.unit import Make, Unit, Work, stage_unit
from prefdelta.recipe import Training
from prefdelta.recipe.fusion import Comparison
from prefdelta.records import Demonstration, read_rows


def demonstrations(world: World, seed: int) -> Unit:
    """The best source answers to a random share of the prompts, and the prompts that are left."""
    recipe, labels, drawn = world.recipe, list(world.sources), seed_from(seed, "division")
    return stage_unit(
        f"demonstrations/{seed}",
        config={"share": recipe.sft_share, "seed": drawn, "sources": labels},
        inputs={"prompts": "prompts", **world.answers},
        make=lambda work, inputs, bench: fusion_stages.write_demonstrations(
            work,
            inputs["prompts"].path / stages.PROMPTS,
            fusion_stages.sources_of(inputs, labels),
            recipe.sft_share,
            drawn,
        ),
        work=Work(disk=world.shown * 4096),
    )


def fine_tuning(world: World, seed: int) -> Unit:
    """Supervised fine-tuning on the demonstrations."""
    training = world.recipe.sft
    seeds = {"order": seed_from(seed, SFT), "init": seed_from(seed, "init")}
    return _training(
        world,
        f"adapters/{seed}/{SFT}",
        training,
        rows=world.shown,
        config={"training": training, "seeds": seeds},
        inputs={"rows": f"demonstrations/{seed}"},
        make=lambda work, inputs, bench: stages.train(
            work,
            read_rows(inputs["rows"].path / fusion_stages.DEMONSTRATIONS, Demonstration),
            bench,
            world.student,
            training,
            seed=seeds["order"],
            init_seed=seeds["init"],
        ),
    )


def triples(world: World, name: str, questions: str, *, count: int) -> Unit:
    """The best source answer and the best and worst of ``responses/NAME``, for each prompt."""
    recipe, labels = world.recipe, list(world.sources)
    about = portable(
        {
            "sources": [source_config(source) for source in recipe.sources],
            "student": recipe.student,
            "fine-tuned": name != STUDENT,
            "sampling": recipe.sampling,
            "scoring": recipe.scoring,
            "triples": recipe.triples,
        }
    )
    return stage_unit(
        f"triples/{name}",
        config={"about": about, "sources": labels},
        inputs={
            "prompts": questions,
            **world.answers,
            "responses": f"responses/{name}",
            "scores": f"scores/{name}",
        },
        make=lambda work, inputs, bench: fusion_stages.write_triples(
            work,
            inputs["prompts"].path / stages.PROMPTS,
            fusion_stages.sources_of(inputs, labels),
            (inputs["responses"], inputs["scores"]),
            recipe.triples,
            about,
        ),
        work=Work(disk=count * 6144),
    )


def preference(world: World, seed: int, name: str, method: Comparison) -> Unit:
    """The training of one method."""
    # One order and one beginning for all methods of a seed: where two learn from the same rows, they differ in nothing
    # but the objective.
    seeds = {"order": seed_from(seed, "preference"), "init": seed_from(seed, "init")}
    tuned = method.start == SFT
    return _training(
        world,
        f"adapters/{seed}/{name}",
        method.training,
        rows=world.left if tuned else world.recipe.prompts.count,
        config={"method": method, "seeds": seeds},
        inputs={
            "triples": f"triples/{seed if tuned else STUDENT}",
            **({"adapter": f"adapters/{seed}/{SFT}"} if tuned else {}),
        },
        make=lambda work, inputs, bench: stages.train(
            work,
            fusion_stages.read_examples(inputs["triples"].path / fusion_stages.TRIPLES, method),
            bench,
            world.student,
            method.training,
            seed=seeds["order"],
            init_seed=seeds["init"],
            adapter=inputs["adapter"].path if tuned else None,
            cache=world.cache,
        ),
    )


def _training(
    world: World,
    name: str,
    training: Training,
    *,
    rows: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    make: Make,
) -> Unit:
    steps = math.ceil(training.epochs * math.ceil(rows / training.batch_size))
    return stage_unit(
        name,
        config={**config, "student": world.recipe.student},
        inputs={**inputs, **world.base},
        externals=world.weights(),
        make=make,
        work=Work(steps=steps, disk=lora_bytes(world.recipe.student, training.lora)),
    )
