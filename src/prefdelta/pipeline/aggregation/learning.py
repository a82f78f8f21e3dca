"""The units that train adapters and merge them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prefdelta.pipeline.aggregation.stages import all_pairs, merge_adapters, pairs_for, write_geometry
from prefdelta.pipeline.aggregation.world import World
from prefdelta.pipeline.estimate import lora_bytes
from prefdelta.pipeline.identity import seed_from
from prefdelta.pipeline.stages import PAIRS, train
from prefdelta.pipeline.unit import Unit, Work
from prefdelta.recipe import Baseline, Control, Training
from prefdelta.records import Pair
from prefdelta.store import Artifact


def adapter(world: World, seed: int, delta: str, control: Control | None) -> Unit:
    """A delta's adapter, trained on its pairs or on what a control makes of them."""
    training = world.domain.training
    if control == "sft":
        training = training.with_objective("sft")
    order = seed_from(seed, delta)
    return _trained(
        world,
        seed,
        delta if control is None else f"{control}.{delta}",
        drawn=delta,  # a control starts from the same A as its delta
        training=training,
        order=order,
        inputs={"pairs": world.path(f"pairs/{delta}")},
        config={"control": control},
        examples=lambda inputs: pairs_for(control, inputs["pairs"].path / PAIRS, order),
    )


def baseline(world: World, seed: int, kind: Baseline) -> Iterator[Unit]:
    """Joint: one adapter. Sequential: the first delta's adapter, trained further on one pair set after another."""
    if kind == "joint":
        yield _trained(
            world,
            seed,
            kind,
            drawn=kind,
            training=world.domain.training,
            order=seed_from(seed, kind),
            inputs={f"pairs of {delta}": world.path(f"pairs/{delta}") for delta in world.deltas},
            config={"joint": world.deltas},
            examples=lambda inputs: all_pairs(inputs, world.deltas),
        )
        return
    last = world.deltas[0]
    for delta in world.deltas[1:]:
        yield _trained(
            world,
            seed,
            f"{kind}.{delta}",
            drawn=kind,  # not used: A is that of the adapter
            training=world.domain.training,
            order=seed_from(seed, kind, delta),
            inputs={
                "pairs": world.path(f"pairs/{delta}"),
                "adapter": world.path(f"adapters/{seed}/{last}"),
            },
            config={"further": True},
            examples=lambda inputs: pairs_for(None, inputs["pairs"].path / PAIRS, 0),
        )
        last = f"{kind}.{delta}"


def baseline_path(world: World, seed: int, baseline: Baseline) -> str:
    """Where the adapter of a baseline lies."""
    if baseline == "joint":
        return f"adapters/{seed}/{baseline}"
    *earlier, last = world.deltas
    return f"adapters/{seed}/{f'{baseline}.{last}' if earlier else last}"


def _trained(
    world: World,
    seed: int,
    name: str,
    *,
    drawn: str,
    training: Training,
    order: int,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    examples: Callable[[Mapping[str, Artifact]], Sequence[Pair]],
) -> Unit:
    init = seed_from(seed, "init" if training.lora.shared_init else drawn)
    sets = sum(label.startswith("pairs") for label in inputs)
    steps = -(-int(sets * world.pair_count * training.epochs) // training.batch_size)
    return world.unit(
        f"adapters/{seed}/{name}",
        config={
            "training": training.settled,
            "seeds": {"order": order, "init": init},
            "student": world.recipe.student,
            **config,
        },
        inputs={**inputs, **world.base},
        externals=world.weights(),
        make=lambda work, inputs, bench: train(
            work,
            examples(inputs),
            bench,
            world.student,
            training,
            seed=order,
            init_seed=init,
            adapter=inputs["adapter"].path if "adapter" in inputs else None,
            cache=world.cache,
        ),
        work=Work(steps=steps, disk=lora_bytes(world.recipe.student, training.lora)),
    )


def merge(world: World, seed: int, name: str, method: str, adapters: list[str]) -> Unit:
    """Adapters of one training seed, merged by one method."""
    inputs = {adapter: world.path(f"adapters/{seed}/{adapter}") for adapter in adapters}
    # GAM aligns to the delta that does best on validation (PDA, footnote 2).
    judged = {
        f"validation of {delta}": world.path(f"validation/{seed}/{delta}")
        for delta in adapters
        if method.startswith("gam")
    }
    return world.unit(
        f"merges/{seed}/{name}",
        config={"method": method, "adapters": adapters},
        inputs={**inputs, **judged},
        make=lambda work, inputs, bench: merge_adapters(work, inputs, method, adapters),
        work=Work(
            disk=(len(adapters) if method == "average" else 1)
            * lora_bytes(world.recipe.student, world.domain.training.lora)
        ),
    )


def geometry(world: World) -> Unit:
    """How the deltas lie to one another, with the first training seed."""
    first = world.recipe.seeds[0]
    return world.unit(
        "geometry",
        config={"adapters": world.deltas},
        inputs={delta: world.path(f"adapters/{first}/{delta}") for delta in world.deltas},
        make=lambda work, inputs, bench: write_geometry(work, [inputs[delta].path for delta in world.deltas]),
    )
