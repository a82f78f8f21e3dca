"""Units divided into shards: each makes a part of the unit's requests, and the unit itself joins what they made.

A shard has the batches that the undivided unit would have, since no group of requests that share batches is cut. So the
joined artifact has the bytes, and by its key the name, of the undivided one, whatever the number of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import concatenate
from prefdelta.core.manifests import MANIFEST, files_in
from prefdelta.core.shard import SHARDS, Shard
from prefdelta.experiments.load import share
from prefdelta.experiments.unit import Inputs, RunContext, Unit, Work
from prefdelta.recipe import BaseRecipe


def divided(units: Sequence[Unit], recipe: BaseRecipe) -> list[Unit]:
    """The same units, with those divided whose stage the recipe's ``resources`` want in shards.

    Raises:
        PrefdeltaError: no unit of such a stage can be divided.
    """
    for stage, resources in recipe.resources.items():
        if resources.shards > 1 and not any(unit.division for unit in units if unit.stage == stage):
            able = list(dict.fromkeys(unit.stage for unit in units if unit.division))
            known = f"those that can be are {', '.join(able)}" if able else "no stage of this recipe can be"
            raise PrefdeltaError(f"resources.{stage}.shards: the stage {stage!r} is not divided into shards; {known}.")
    wanted = {stage: resources.shards for stage, resources in recipe.resources.items()}
    return [_divided(unit, wanted.get(unit.stage, 1)) for unit in units]


def _divided(unit: Unit, count: int) -> Unit:
    """A unit with ``count`` shards, or as many as it has groups of requests."""
    division = unit.division
    count = min(count, division.groups) if division is not None else 1
    if division is None or count < 2:
        return unit
    shards = tuple(
        replace(
            unit,
            name=f"{SHARDS}/{unit.name}/{number + 1}-of-{count}",
            config={**unit.config, "shard": [number, count]},
            make=partial(division.make, shard=Shard(number, count)),
            work=_share(unit.work, count),
            division=None,
        )
        for number in range(count)
    )
    # Joining is quick, and what an undivided build left behind is no part of it.
    return replace(unit, make=partial(_join, shards), shards=shards, resumable=False)


def _join(shards: Sequence[Unit], work: Path, inputs: Inputs, context: RunContext) -> None:
    """The files of all shards, one after the other, under the names that they have in each of them."""
    folders = [inputs[shard.name].path for shard in shards]
    for name in files_in(folders[0]):
        if name != MANIFEST:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            concatenate(work / name, [folder / name for folder in folders])


def _share(work: Work, count: int) -> Work:
    """One of ``count`` equal shares of some work, for the plan."""
    return replace(
        work,
        samples=-(-work.samples // count),
        scores=-(-work.scores // count),
        disk=-(-work.disk // count),
        load=tuple(share(load, count) for load in work.load),
    )
