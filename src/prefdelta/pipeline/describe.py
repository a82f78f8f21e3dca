"""The dry-run plan, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from prefdelta.pipeline.estimate import model_size, sampling_models, totals, training_memory
from prefdelta.recipe import ModelRef

if TYPE_CHECKING:
    from prefdelta.pipeline.aggregation import AggregationPlan


def plan_table(plan: AggregationPlan) -> Group:
    """What a run would do, stage by stage, and roughly what it needs; touches neither the network nor any weights."""
    stages = Table(
        "stage", "units", "answers sampled", "optimiser steps", "disk", title=f"plan of {plan.recipe.name!r}"
    )
    for stage, (count, work) in totals(plan.units).items():
        stages.add_row(stage, f"{count:,}", _number(work.samples), _number(work.steps), _bytes(work.disk))
    everything = [work for _, work in totals(plan.units).values()]
    stages.add_section()
    stages.add_row(
        "all",
        f"{len(plan.units):,}",
        _number(sum(work.samples for work in everything)),
        _number(sum(work.steps for work in everything)),
        _bytes(sum(work.disk for work in everything)),
    )
    models = Table("model", "parameters", "in memory", title="models, one in memory at a time")
    for ref in sampling_models(plan.recipe):
        size = model_size(ref)
        about = "about " if size and size.guessed else ""
        models.add_row(
            ref.path,
            f"{about}{size.parameters:,}" if size else "unknown",
            f"{about}{_bytes(_resident(ref))}" if size else "unknown",
        )
    return Group(stages, models, Text(_training_line(plan)))


def _training_line(plan: AggregationPlan) -> str:
    needs = [training_memory(plan.recipe.student, domain.training.lora) for domain in plan.recipe.domains.values()]
    known = [need for need in needs if need is not None]
    if not known:
        return "training memory: unknown, the student's size is not in its name."
    return f"training memory: about {_bytes(max(known))} for weights, LoRA and optimiser, plus activations."


def _resident(ref: ModelRef) -> int:
    size = model_size(ref)
    return size.parameters * (4 if ref.dtype == "float32" else 2) if size else 0


def _number(value: int) -> str:
    return f"{value:,}" if value else "-"


def _bytes(value: int) -> str:
    if not value:
        return "-"
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
