"""Domains, tasks and their items."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType

from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.records import Item
from prefdelta.micro import arithmetic, questions
from prefdelta.micro.world import SPLITS

TASKS: Mapping[str, tuple[str, ...]] = MappingProxyType({"reasoning": arithmetic.TASKS, "search": questions.TASKS})
"""Domain -> its tasks."""


def items(name: str, *, split: str, count: int) -> list[Item]:
    """Items of a domain (its tasks in turn) or of one task; the first 100 of 200 are the same as 100.

    Args:
        name: a domain or a task.
        split: ``"train"``, ``"validation"`` or ``"test"``; no prompt is in two of them.
        count: how many items.

    Raises:
        PrefdeltaError: ``name`` or ``split`` is unknown, or there are fewer than ``count`` items.
    """
    if split not in SPLITS:
        raise PrefdeltaError(f"the embedded tasks have no split {split!r}; {did_you_mean(split, SPLITS)}")
    tasks = TASKS.get(name) or ((name,) if any(name in group for group in TASKS.values()) else ())
    if not tasks:
        known = [*TASKS, *(task for group in TASKS.values() for task in group)]
        raise PrefdeltaError(f"no embedded task or domain is called {name!r}; {did_you_mean(name, known)}")
    columns = [_task_items(task, split, -(-count // len(tasks))) for task in tasks]
    mixed = [item for row in zip(*columns, strict=True) for item in row]
    return mixed[:count]


def needs(task: str) -> tuple[str, ...]:
    """The behaviours that a right answer to a task takes (lucky guesses aside)."""
    return _NEEDS[task]


_NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "chain": ("steps", "close"),
        "story": ("setup", "steps", "close"),
        "audit": ("check", "close"),
        "ledger": ("setup", "check", "close"),
        "lookup": ("search", "query"),
        "rephrase": ("search", "query", "retry"),
        "relay": ("search", "query", "hop"),
    }
)


def _task_items(task: str, split: str, count: int) -> list[Item]:
    pairs: Iterable[tuple[str, str]]
    if task in arithmetic.TASKS:
        _check_count(task, split, count, arithmetic.available(task, split))  # it looks for more without end
        pairs = ((problem.prompt, str(problem.totals[-1])) for problem in arithmetic.problems(task, split))
    else:
        pairs = ((question.prompt, question.answer) for question in questions.problems(task, split))
    found = list(islice(pairs, min(count, sys.maxsize)))
    _check_count(task, split, count, len(found))
    return [
        Item(f"{task}-{split}-{number:05d}", task, ({"role": "user", "content": prompt},), (answer,))
        for number, (prompt, answer) in enumerate(found)
    ]


def _check_count(task: str, split: str, count: int, there: int) -> None:
    if there < count:
        raise PrefdeltaError(
            f"the embedded task {task!r} has only {there} items in its {split} split, and {count} were asked for; "
            "ask for fewer."
        )
