"""The dry-run plan, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from prefdelta.pipeline.estimate import model_size, sampling_models, totals, training_memory
from prefdelta.pipeline.unit import Unit, Work
from prefdelta.recipe import ModelRef, Recipe


def plan_table(recipe: Recipe, units: list[Unit]) -> Group:
    """What a run would do, stage by stage, and roughly what it needs; touches neither the network nor any weights."""
    needs = [training_memory(recipe.student, domain.training.lora) for domain in recipe.domains.values()]
    return Group(
        stage_table(recipe.name, units),
        model_table(sampling_models(recipe)),
        Text(memory_line(needs)),
    )


def stage_table(name: str, units: list[Unit]) -> Table:
    """The stages with their sizes, and their sum; a column that would be empty is left out."""
    stages = totals(units)
    every = Work(
        samples=sum(work.samples for _, work in stages.values()),
        scores=sum(work.scores for _, work in stages.values()),
        steps=sum(work.steps for _, work in stages.values()),
        disk=sum(work.disk for _, work in stages.values()),
    )
    scored = ("answers scored",) if every.scores else ()
    table = Table("stage", "units", "answers sampled", *scored, "optimiser steps", "disk", title=f"plan of {name!r}")

    def row(label: str, count: int, work: Work) -> None:
        middle = (_number(work.scores),) if scored else ()
        table.add_row(label, f"{count:,}", _number(work.samples), *middle, _number(work.steps), _bytes(work.disk))

    for stage, (count, work) in stages.items():
        row(stage, count, work)
    table.add_section()
    row("all", len(units), every)
    return table


def model_table(models: Sequence[ModelRef]) -> Table:
    """What each model takes in memory, as far as its files or its name tell."""
    table = Table("model", "parameters", "in memory", title="models, one in memory at a time")
    for ref in models:
        size = model_size(ref)
        about = "about " if size and size.guessed else ""
        table.add_row(
            ref.path,
            f"{about}{size.parameters:,}" if size else "unknown",
            f"{about}{_bytes(_resident(ref))}" if size else "unknown",
        )
    return table


def memory_line(needs: Sequence[int | None]) -> str:
    """What the largest of some trainings needs, see :func:`prefdelta.pipeline.estimate.training_memory`."""
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
