"""What a report is made from. All of it is plain data; a report reads no model and no run directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefdelta.core.records import Item, Record
from prefdelta.evaluation.results import AggregationResults


@dataclass(frozen=True)
class Node:
    """One step on the way to a merged adapter: what it is, a detail, and a hash of its content."""

    label: str
    detail: str = ""
    hash: str = ""


@dataclass(frozen=True)
class DeltaLineage:
    """Where one delta comes from."""

    name: str
    weak: Node
    weaker: Node
    pairs: Node
    adapter: Node


@dataclass(frozen=True)
class DomainLineage:
    """Where the merged adapter of a domain comes from.

    ``folder`` is the adapter's, in the run folder; ``rank`` a ``--max-lora-rank`` of vLLM that holds it.
    """

    student: Node
    prompts: Node
    deltas: tuple[DeltaLineage, ...]
    merged: Node
    folder: str
    rank: int


@dataclass(frozen=True)
class Transcript:
    """Two answers to one item, the student's and the merged model's."""

    task: str
    item: str
    question: str
    answers: tuple[str, ...]
    student: Record
    merged: Record


@dataclass(frozen=True)
class ReportInput:
    """All that a report shows.

    Attributes:
        results: the content of ``results.json``.
        recipe: the recipe as text.
        description: what the run is about, in a sentence or two.
        geometry: by domain, how its deltas lie to one another (``Geometry.model_dump()``), for one training seed.
        transcripts: by domain, a few answers to read.
        lineage: by domain, where its merged adapter comes from.
        versions: of the libraries that decide numbers.
        limits: what a reader should know about this run beyond the general limits, one sentence each.
    """

    results: AggregationResults
    recipe: str
    description: str = ""
    geometry: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    transcripts: Mapping[str, Sequence[Transcript]] = field(default_factory=dict)
    lineage: Mapping[str, DomainLineage] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()


def pick_transcripts(
    items: Mapping[str, Sequence[Item]], student: Sequence[Record], merged: Sequence[Record], *, count: int = 3
) -> list[Transcript]:
    """Choose answers to show: items that the merge won, one per task, and in the end one that it still gets wrong.

    Which ones is decided by a hash of the item's id, not by how good they look.

    Args:
        items: the items by task; records of other tasks are left out.
        student: the student's records.
        merged: the merged model's records of the same items.
        count: how many, if there are so many.
    """
    asked = {(task, item.id): item for task, entries in items.items() for item in entries}
    theirs = {(record.task, record.item): record for record in student}
    won: dict[str, list[Transcript]] = {}
    lost: list[Transcript] = []
    answered = [record for record in merged if (record.task, record.item) in asked]
    for record in sorted(answered, key=lambda record: hashlib.sha256(record.item.encode()).digest()):
        before = theirs[record.task, record.item]
        item = asked[record.task, record.item]
        question = next(message["content"] for message in reversed(item.messages) if message["role"] == "user")
        shown = Transcript(record.task, item.id, question, item.answers, before, record)
        if record.score > before.score:
            won.setdefault(record.task, []).append(shown)
        elif record.score == 0:
            lost.append(shown)
    depth = max((len(entries) for entries in won.values()), default=0)
    by_turns = [won[task][turn] for turn in range(depth) for task in items if turn < len(won.get(task, []))]
    last = lost[:1]
    return by_turns[: count - len(last)] + last
