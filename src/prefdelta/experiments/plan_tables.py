"""Tables of the dry-run plan: stages, models and memory, for every kind of recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import local_folder
from prefdelta.experiments.estimate import TrainingMemory, lora_bytes, model_size, totals, weight_bytes
from prefdelta.experiments.gpus import Gpu
from prefdelta.experiments.hours import Hours, gpus_needed, stage_hours
from prefdelta.experiments.load import Sampled
from prefdelta.experiments.unit import Unit, Work
from prefdelta.recipe import AnySource, Lora, ModelRef, Training


def overview(
    name: str,
    units: list[Unit],
    student: ModelRef,
    others: Iterable[AnySource | None],
    trainings: Sequence[Training],
    memory: Sequence[TrainingMemory | None],
) -> list[RenderableType]:
    """The stages, the models that are loaded, and what a run takes on disk and in memory.

    Args:
        name: of the recipe.
        units: that a run makes.
        student: the student.
        others: what answers or scores; those that are models are loaded.
        trainings: the settings of all trainings.
        memory: what each of them holds.
    """
    models = list(dict.fromkeys([student, *(each for each in others if isinstance(each, ModelRef))]))
    return [
        _stage_table(name, units),
        _model_table(models),
        Text(_disk_line(units, models, student, [training.lora for training in trainings])),
        Text(_memory_line(memory)),
    ]


def _stage_table(name: str, units: list[Unit]) -> Table:
    """The stages with their sizes, and their sum; a column that would be empty is left out."""
    stages = totals(units)
    every = sum((work for _, work in stages.values()), Work())
    scored = ("answers scored",) if every.scores else ()
    shards = Counter({stage: sum(len(unit.shards) for unit in units if unit.stage == stage) for stage in stages})
    divided = ("in shards",) if shards.total() else ()
    table = Table(
        *("stage", "units", *divided, "answers sampled", *scored, "optimiser steps", "disk"), title=f"plan of {name!r}"
    )

    def row(label: str, count: int, parts: int, work: Work) -> None:
        first = (_number(parts),) if divided else ()
        middle = (_number(work.scores),) if scored else ()
        sizes = (_number(work.samples), *middle, _number(work.steps), _bytes(work.disk))
        table.add_row(label, f"{count:,}", *first, *sizes)

    for stage, (count, work) in stages.items():
        row(stage, count, shards[stage], work)
    table.add_section()
    row("all", len(units), shards.total(), every)
    return table


def _model_table(models: Sequence[ModelRef]) -> Table:
    """What each model takes in memory, as far as its files or its name tell."""
    table = Table("model", "parameters", "in memory", title="models, one in memory at a time")
    for ref in models:
        size = model_size(ref)
        about = "about " if size and size.guessed else ""
        table.add_row(
            Text(ref.path),
            f"{about}{size.parameters:,}" if size else "unknown",
            f"{about}{_bytes(_resident(ref))}" if size else "unknown",
        )
    return table


def _disk_line(units: Sequence[Unit], models: Sequence[ModelRef], student: ModelRef, loras: Sequence[Lora]) -> str:
    """What a run takes on disk: its folder, the checkpoints of a training, and weights that are to be fetched."""
    own = sum(unit.work.disk for unit in units)
    # Two checkpoints while the newer one is written, each with the adapter and its two moments.
    passing = 6 * max((lora_bytes(student, lora) for lora in loras), default=0)
    sizes = {ref: model_size(ref) for ref in models if local_folder(ref) is None}
    fetched = sum(weight_bytes(ref, size) for ref, size in sizes.items() if size)
    told = f"disk: about {_bytes(own)} for the run, {_bytes(passing)} more while an adapter is trained"
    return f"{told}, and {_bytes(fetched)} for weights to be fetched." if fetched else f"{told}."


def _memory_line(needs: Sequence[TrainingMemory | None]) -> str:
    """What the largest of some trainings needs."""
    known = [need for need in needs if need is not None]
    if not known:
        return "training memory: unknown, the student's size is not in its name."
    most = max(known, key=lambda need: need.all)
    return (
        f"training memory: about {_bytes(most.all)} where all rows of a micro-batch are max_length long "
        f"(weights {_bytes(most.weights)}, LoRA and optimiser {_bytes(most.adapter)}, activations "
        f"{_bytes(most.activations)})."
    )


def _duration(hours: float) -> str:
    if hours < 1 / 20:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:,.1f} h"


def cost_table(name: str, gpu: Gpu, units: Sequence[Unit], needs: Sequence[TrainingMemory | None]) -> RenderableType:
    """Hours and money by stage on one GPU, and what was assumed; see :mod:`prefdelta.experiments.hours`.

    Raises:
        PrefdeltaError: nothing is known of what the units ask of models, as in suites.
    """
    stages = stage_hours(units, gpu)
    if not stages:
        raise PrefdeltaError("--gpu: hours are told for recipes of kind aggregation and fusion only; leave it out.")
    table = Table(
        "stage", "GPU time", "cost", "at most", "longest unit", title=f"on {name} at {gpu.price:g} an hour, about"
    )

    def row(label: str, hours: Hours) -> None:
        cost = f"{hours.likely * gpu.price:,.2f}"
        table.add_row(label, _duration(hours.likely), cost, _duration(hours.most), _duration(hours.longest))

    for stage, hours in stages.items():
        row(stage, hours)
    every = Hours(
        sum(hours.likely for hours in stages.values()),
        sum(hours.most for hours in stages.values()),
        max(hours.longest for hours in stages.values()),
    )
    table.add_section()
    row("all", every)
    longest = max(stages, key=lambda stage: stages[stage].likely)
    lines = [
        f"longest stage: {longest}, {stages[longest].likely / every.likely:.0%} of the hours.",
        f"counted with: answers take {gpu.filled:.0%} of the tokens that they may (at most: all of them), "
        f"{gpu.training:.0%} of {gpu.tflops:g} TFLOPS in training, {gpu.reading:.0%} in reading, {gpu.writing:.0%} of "
        f"{gpu.bandwidth:g} TB/s in writing, and {gpu.start:.2g} s to start a unit. Not counted: downloads, and pairs "
        "and merges, which need no GPU.",
    ]
    models = list(dict.fromkeys(load.model for unit in units for load in unit.work.load))
    sizes = {ref.path: model_size(ref) for ref in models}
    if unknown := [path for path, size in sizes.items() if size is None]:
        lines.append(f"not counted, since their names tell no size: {', '.join(unknown)}.")
    if guessed := [path for path, size in sizes.items() if size and size.guessed]:
        lines.append(
            f"sizes are by name for {len(guessed)} models that are not on this machine, in Qwen3's proportions."
        )
    most = max((need.all for need in needs if need is not None), default=0)
    if (count := gpus_needed(most, gpu)) > 1:
        lines.append(
            f"warning: training needs {_bytes(most)} at most, which {count} x {name} hold; lower "
            "micro_batch_size or max_length, or set gradient_checkpointing."
        )
    drawn = [load.model for unit in units for load in unit.work.load if isinstance(load, Sampled)]
    fast = {ref.path for ref in drawn if ref.engine == "vllm"}
    slow = sorted({ref.path for ref in drawn} - fast)
    if slow:
        lines.append(f"drawn by transformers, many times slower than `engine: vllm`: {', '.join(slow)}.")
    return Group(table, *(Text(line) for line in lines))


def _resident(ref: ModelRef) -> int:
    size = model_size(ref)
    return weight_bytes(ref, size) if size else 0


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
