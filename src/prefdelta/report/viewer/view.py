"""What the viewer shows, whatever kind of results it comes from: models' answers to items, charts, tables, pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdelta.core.records import Item, Pair, Record
from prefdelta.recipe.base import BaseRecipe
from prefdelta.report.results import AnyResults
from prefdelta.report.viewer.process import ProcessView

SeedAnswers = Sequence[Sequence[Record] | None]
"""For each model, its records of all items with one training seed; ``None`` where it was not run with that seed."""

Cell = str | float | int | None


@dataclass(frozen=True)
class Against:
    """A paired difference over so many items, as the results tell it: ``+4.0 [+1.2, +6.8]``, or ``None``."""

    text: str | None
    items: int


@dataclass(frozen=True)
class ModelView:
    """One column of the table of items.

    Attributes:
        name: unique in its domain.
        kind: what it is, in a word: ``student``, ``single``, ``merge``, ``run``, …
        source: what it is made of; the single deltas of one source are told apart by their scale only.
        scale: λ; ``None`` without an adapter.
        score: in percent, the mean over the tasks.
        scores: in percent, of each task.
        minor: shown only when all models are.
        to_base: the differences to the base: over all tasks, then of each task; empty where there are none.
        to_rival: the same to the rival.
        changed: in percent, how many answers are another than the base's: over all tasks, then of each task.
    """

    name: str
    kind: str
    source: str
    scale: float | None
    score: float
    scores: Sequence[float]
    minor: bool = False
    to_base: Sequence[Against] = ()
    to_rival: Sequence[Against] = ()
    changed: Sequence[float | None] = ()


@dataclass(frozen=True)
class DomainView:
    """Items that all models of a domain answered.

    Attributes:
        name: of the domain.
        tasks: their names.
        models: the columns.
        base: the place of the model that others are held against, and ``rival`` of a second one, if there are any.
        choices: the places of the models that can be held against them; the first is held at first.
        items: (task, item id) of each item, in the order of all records.
        questions: what was asked, ``None`` where that is not known any more.
        answers: for each training seed of the run, the models' records.
        judged: what a record has parsed is a judge's verdict, and stands in no answer.
        words: of judged items, what the judge wrote: (what it was shown, its verdict, its reply) of each judgement.
    """

    name: str
    tasks: Sequence[str]
    models: Sequence[ModelView]
    base: int | None
    rival: int | None
    choices: Sequence[int]
    items: Sequence[tuple[str, str]]
    questions: Sequence[Item | None]
    answers: Sequence[SeedAnswers]
    judged: bool = False
    words: Sequence[Sequence[tuple[str, str, str]]] = ()


@dataclass(frozen=True)
class Curve:
    """One line of a chart. A row is a position and a value by column.

    ``chosen`` is the position that was chosen, ``level`` the first and the last of its neighbours that the items cannot
    tell from it.
    """

    name: str
    kind: str
    chosen: float | None
    rows: Sequence[Sequence[float | None]]
    level: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """Curves over a shared axis: one panel for each of ``drawn``, all ``columns`` in a table, ``notes`` above them."""

    name: str
    axis: str
    columns: Sequence[str]
    drawn: Sequence[str]
    curves: Sequence[Curve]
    logarithmic: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TableView:
    """Numbers as results tell them; the page rounds them to one decimal, but whole ones, and shows texts as they are.

    ``interval`` names the columns of a difference and of both ends of its interval, which are drawn.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    interval: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class PairSet:
    """The preference pairs of one delta.

    Attributes:
        name: of the artifact.
        counts: what became of the questions: ``asked``, then the reasons for which pairs were dropped.
        pairs: each with what became of it: ``trained on``, ``held out``, or why a filter dropped it.
        margins: model -> of each pair the margin in nats, mean over training seeds; ``None`` where none was measured.
    """

    name: str
    counts: Mapping[str, int]
    pairs: Sequence[tuple[str, Pair]]
    margins: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class RunView:
    """All that a viewer's folder shows; what is empty has no view.

    Attributes:
        name: the page's heading.
        description: what it is about.
        results: the typed results, which the folder holds a copy of.
        sentences: the result in words.
        notes: what cannot be shown, and what speaks against the numbers.
        seeds: the training seeds.
        command: the command that makes the same again, if it is known.
        settings: what was asked for, the recipe of a run or the configuration of a command.
        pairs: the pairs that deltas were trained on.
        process: how it was made.
        reads: the folders and files that this was read from.
        report: the page that the run wrote, if it wrote one.
    """

    name: str
    description: str
    results: AnyResults
    sentences: Sequence[str]
    seeds: Sequence[int]
    notes: Sequence[str] = ()
    command: str = ""
    settings: Any = None
    domains: Sequence[DomainView] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[TableView] = ()
    pairs: Sequence[PairSet] = ()
    process: ProcessView = field(default_factory=ProcessView)
    reads: Sequence[Path] = ()
    report: str = ""

    @property
    def settings_file(self) -> str:
        """What the file of the settings is called: a recipe is one that the command takes."""
        return "recipe.yaml" if isinstance(self.settings, BaseRecipe) else "settings.yaml"
