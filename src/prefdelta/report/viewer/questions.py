"""The questions of recorded answers, where their source still holds them as they were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefdelta.agent import protocol_of
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Record, digest
from prefdelta.evaluation.benchmarks import benchmark_items
from prefdelta.recipe import Benchmark, Search


def questions(
    benchmarks: Sequence[Benchmark], search: Search | None, records: Sequence[Record], label: str, notes: list[str]
) -> list[Item | None]:
    """The question of each record.

    Args:
        benchmarks: where the items come from; a record's task is the name of one.
        search: how questions were dressed for a model that could search.
        records: one an item, with the hash of what was asked.
        label: what notes begin a task's name with.
        notes: gets a sentence for each benchmark whose questions are not shown, and for changed ones.
    """
    found: dict[tuple[str, str], Item] = {}
    unread = set()
    for benchmark in benchmarks:
        if benchmark.pairs is not None:
            unread.add(benchmark.name)  # the view of pairs has their texts
            continue
        try:
            found |= {(benchmark.name, item.id): item for item in benchmark_items(benchmark, "test")}
        except PrefdeltaError as error:
            unread.add(benchmark.name)
            notes.append(f"The questions of {label}{benchmark.name} are not shown: {error}")
    same = [_same(found, record, search) for record in records]
    changed = sum(item is None and row.task not in unread for row, item in zip(records, same, strict=True))
    if changed:
        where = label.rstrip("/") or "the benchmark"
        notes.append(
            f"{changed} questions of {where} are not shown: their source no longer holds them as they were asked."
        )
    return same


def _same(found: Mapping[tuple[str, str], Item], record: Record, search: Search | None) -> Item | None:
    item = found.get((record.task, record.item))
    return item if item and (not record.prompt_hash or record.prompt_hash in _hashes(item, search)) else None


def _hashes(item: Item, search: Search | None) -> set[str]:
    """The ``prompt_hash`` that a record of this item can have."""
    forms = [item]
    if search is not None:
        forms.append(protocol_of(search.protocol).dressed(item))
    return {digest({"messages": form.messages, "thinking": thinking}) for form in forms for thinking in (False, True)}
