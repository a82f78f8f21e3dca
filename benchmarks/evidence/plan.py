"""What is trained and measured: the cells of a size, the most important first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from evidence.deltas import OBJECTIVES, OWN_OBJECTIVE, SHIPPED, Deltas, member
from evidence.measure import METHODS, TASKS, Cell, Sizes
from evidence.systematic import DOMAIN, SYSTEMATIC

FOUR = ("ash", "birch", "cedar", "elm")
CLASSES = (2, 4)
"""Of answers of which only the class is seen."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        sizes: items of each task.
        prompts: that each weak model answers.
        seeds: training seeds of the shipped family.
        methods: the merges of every seed; of the first one all of :data:`METHODS`.
        baseline_seeds: the seeds whose single deltas and baselines are measured.
        baselines: ``joint`` and ``sequential`` training, or none.
        epochs: other lengths of training, of the first seed.
        few: methods of what is measured of the first seed alone.
        harmful: whether a delta trained on reversed labels joins the merges.
        families: offsets of other families, whose models are trained first.
        family_seeds: their training seeds.
        sources: four families whose weak models all teach the shipped student, so that there are 16 deltas to merge.
        ranks: of the adapters, of the first seed.
        objectives: of the trainings, of the first seed.
        fooled: whether agreement is tried where it may be fooled: with one mistake that is always made, and where only
            the class of an answer is seen.
        domains: of the demo.
    """

    sizes: Sizes
    prompts: int
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    baseline_seeds: tuple[int, ...]
    epochs: tuple[float, ...]
    few: tuple[str, ...]
    harmful: bool
    families: tuple[int, ...] = ()
    family_seeds: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    objectives: tuple[str, ...] = ()
    fooled: bool = False
    domains: tuple[str, ...] = tuple(TASKS)
    baselines: tuple[str, ...] = ()


PLANS = {
    "quick": Plan(
        sizes=Sizes(30, 60),
        prompts=1000,
        seeds=(0,),
        methods=("average", "ties", "truncate-ties"),
        baseline_seeds=(),
        epochs=(0.5,),
        few=("average",),
        harmful=False,
    ),
    "shipped": Plan(
        sizes=Sizes(60, 150),
        prompts=2000,
        seeds=(0, 1, 2, 3, 4),
        methods=("average", "ties", "gam", "truncate-ties"),
        baseline_seeds=(0,),
        epochs=(0.5, 4.0),
        few=("average", "truncate-ties"),
        harmful=True,
        families=(200, 300, 400),
        family_seeds=(10,),
        sources=(SHIPPED, "200", "300", "400"),
        ranks=(2, 8, 32, 64),
        objectives=tuple(OBJECTIVES),
        fooled=True,
    ),
    "full": Plan(
        sizes=Sizes(100, 500),
        prompts=2000,
        seeds=(0, 1, 2, 3, 4),
        methods=tuple(METHODS),
        baseline_seeds=(0, 1, 2, 3, 4),
        epochs=(0.5, 2.0, 4.0),
        few=("average", "ties", "truncate-ties"),
        harmful=True,
        families=(200, 300, 400),
        family_seeds=(10, 11),
        sources=(SHIPPED, "200", "300", "400"),
        ranks=(2, 8, 32, 64),
        objectives=tuple(OBJECTIVES),
        fooled=True,
        baselines=("joint", "sequential"),
    ),
}
PARTS = ("seeds", "baselines", "number", "lengths", "harmful", "families", "many", "ranks", "objectives", "fooled")
"""In the order in which they are measured."""


@dataclass(frozen=True)
class Step:
    """Some deltas, which are trained if they are missing, and the cells that are measured of them."""

    deltas: Deltas
    cells: tuple[Cell, ...]


def steps(plan: Plan, part: str) -> Iterator[Step]:
    """What one part trains and measures."""
    first, deltas = plan.seeds[0], partial(Deltas, prompts=plan.prompts, domains=plan.domains)

    def cells(
        seed: int, members: tuple[str, ...], methods: tuple[str, ...], epochs: float = 1.0, **further: Any
    ) -> tuple[Cell, ...]:
        return tuple(
            Cell(SHIPPED, domain, seed, epochs, members, name, **further) for name in methods for domain in plan.domains
        )

    if part == "seeds":
        for seed in plan.seeds:
            names = tuple(METHODS) if seed == first and len(plan.seeds) > 1 else plan.methods
            yield Step(deltas(SHIPPED, plan.seeds), cells(seed, FOUR, names))
    elif part == "baselines" and plan.baseline_seeds:
        further = deltas(SHIPPED, plan.baseline_seeds, baselines=plan.baselines)
        for seed in plan.baseline_seeds:
            last = {"joint": "joint", "sequential": f"sequential.{FOUR[-1]}"}
            alone = [(name,) for name in (*FOUR, *(last[name] for name in plan.baselines))]
            yield Step(further, tuple(cell for members in alone for cell in cells(seed, members, ("average",))))
    elif part == "number":
        halves = (FOUR[:2], FOUR[2:])
        made = tuple(cell for members in halves for cell in cells(first, members, plan.few))
        yield Step(deltas(SHIPPED, plan.seeds), made)
    elif part == "lengths":
        for epochs in plan.epochs:
            yield Step(deltas(SHIPPED, (first,), epochs=epochs), cells(first, FOUR, plan.few, epochs))
    elif part == "harmful" and plan.harmful:
        bad = deltas(SHIPPED, (first,), reversed=True)
        yield Step(bad, cells(first, (*FOUR, f"reversed.{FOUR[0]}"), plan.few))
    elif part == "families":
        for family in map(str, plan.families):
            made = tuple(
                Cell(family, domain, seed, 1.0, FOUR, name)
                for seed in plan.family_seeds
                for name in plan.methods
                for domain in plan.domains
            )
            yield Step(deltas(family, plan.family_seeds), made)
    elif part == "many" and plan.sources:
        every = [member(name, source) for source in plan.sources for name in FOUR]
        merged = ((size, plan.methods) for size in (4, 8, 16))
        for size, methods in ((1, ("average",)), (2, plan.few), *merged):
            for start in range(0, len(every), size):
                made = cells(first, tuple(every[start : start + size]), methods)
                yield Step(deltas(SHIPPED, (first,), sources=plan.sources), made)
        for name in FOUR:  # what several families teach of the same
            alike = tuple(member(name, source) for source in plan.sources)
            yield Step(deltas(SHIPPED, (first,), sources=plan.sources), cells(first, alike, plan.few))
    elif part == "ranks":
        for rank in plan.ranks:
            yield Step(deltas(SHIPPED, (first,), rank=rank), cells(first, FOUR, plan.methods, variant=f"r{rank}"))
    elif part == "objectives":
        for objective in plan.objectives:
            for domain in plan.domains:
                other = "" if objective == OWN_OBJECTIVE[domain] else objective
                made = cells(first, FOUR, plan.methods, variant=objective)
                yield Step(
                    deltas(SHIPPED, (first,), objective=other), tuple(cell for cell in made if cell.domain == domain)
                )
    elif part == "fooled" and plan.fooled:
        wrong = f"{SYSTEMATIC}{FOUR[0]}"
        made = (*cells(first, (wrong,), ("average",)), *cells(first, (*FOUR, wrong), plan.methods))
        yield Step(deltas(SHIPPED, (first,), systematic=True), tuple(cell for cell in made if cell.domain == DOMAIN))
        yield Step(deltas(SHIPPED, plan.seeds), cells(first, FOUR, plan.methods, variant="seen", classes=CLASSES))
