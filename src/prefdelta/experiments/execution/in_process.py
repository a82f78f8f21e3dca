"""The executor that makes units in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.execution.make import build
from prefdelta.experiments.execution.scheduler import Executor, Made, News
from prefdelta.experiments.unit import RunContext, Unit


class InProcess(Executor):
    """Makes a unit when its news is asked for; an error of the unit is raised as it is."""

    lanes = 1

    def __init__(self, store: Store, context: RunContext) -> None:
        self._store = store
        self._context = context
        self._next: tuple[Unit, Mapping[str, Artifact]] | None = None

    def close(self) -> None:
        """End what is under way."""
        self._context.release()

    def free(self) -> bool:
        """Whether another unit can be handed out."""
        return self._next is None

    def submit(self, unit: Unit, inputs: Mapping[str, Artifact]) -> None:
        """Take a unit and its inputs' artifacts."""
        self._next = (unit, inputs)

    def news(self) -> Iterator[News]:
        """What has happened; waits until there is something."""
        assert self._next is not None
        unit, inputs = self._next
        artifact = build(unit, self._store, inputs, self._context)
        self._next = None
        yield Made(unit.name, artifact)
