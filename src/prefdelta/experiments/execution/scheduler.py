"""The scheduler: which unit is made next, what is kept, what is done when a worker is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.progress import Display
from prefdelta.core.store import JOURNAL, Artifact, Store
from prefdelta.experiments.execution.make import reuse
from prefdelta.experiments.unit import Unit

RESUBMISSIONS = 3
"""How often a unit is handed out again after the worker that made it was lost."""


@dataclass(frozen=True)
class Came:
    """The unit has come so far: ``done`` of ``total``."""

    unit: str
    done: int
    total: int


@dataclass(frozen=True)
class Told:
    """A sentence for the user."""

    unit: str
    sentence: str


@dataclass(frozen=True)
class Made:
    """The unit's artifact is there."""

    unit: str
    artifact: Artifact


@dataclass(frozen=True)
class Refused:
    """The unit refuses its input; the sentence says why. Handing it out again would not help."""

    unit: str
    sentence: str


@dataclass(frozen=True)
class Failed:
    """An error that no unit should raise: its type, message, and traceback if the journal lacks it."""

    unit: str
    error: str
    traceback: str = ""


@dataclass(frozen=True)
class Lost:
    """The worker that made the unit is gone; ``how`` goes on from "the worker that made it"."""

    unit: str
    how: str


News = Came | Told | Made | Refused | Failed | Lost


class Executor(Protocol):
    """Makes units."""

    lanes: int
    """How many units are shown at work at the same time."""

    def close(self) -> None:
        """End what is under way; nothing more is handed out."""

    def free(self) -> bool:
        """Whether another unit can be handed out."""

    def submit(self, unit: Unit, inputs: Mapping[str, Artifact]) -> None:
        """Have a unit made, of its inputs' artifacts by the names of their units."""

    def news(self) -> Iterable[News]:
        """What has happened to the units handed out; waits until there is something."""


def execute(units: Sequence[Unit], store: Store, executor: Executor, display: Display) -> dict[str, Artifact]:
    """Make every unit's artifact, keeping those that are there and whole.

    Of the units that are ready, the one with the longest chain of units after it goes first, so that many workers do
    not wait for one at the end; among equals, the plan's order holds. A unit with shards waits for these once it is
    known that its artifact is missing.

    Args:
        units: in an order in which every unit finds its inputs made.
        store: where the artifacts are.
        executor: what makes those that are missing; it is closed here.
        display: has a bar for each of the executor's lanes.

    Returns:
        All artifacts by the names of their units, in the order of the units.

    Raises:
        PrefdeltaError: a unit refuses its input, failed in an unexpected way, or lost its worker again and again; the
            others are ended, and what they had begun is continued by the next run.
    """
    made: dict[str, Artifact] = {}
    waiting = _Waiting(units)
    running: dict[str, Unit] = {}
    lanes: list[str | None] = [None] * executor.lanes
    lost: Counter[str] = Counter()

    def finished(name: str, artifact: Artifact) -> None:
        made[name] = artifact
        display.finish()

    with closing(executor):
        while waiting or running:
            while executor.free() and (unit := waiting.take(made)) is not None:
                lane = lanes.index(None) if None in lanes else None
                if lane is not None:
                    display.start(unit.name, lane)
                if found := reuse(unit, store, made):
                    finished(unit.name, found)
                    continue
                if waiting.for_shards(unit):
                    display.more(len(unit.shards))
                    continue
                if lane is not None:
                    lanes[lane] = unit.name
                running[unit.name] = unit
                executor.submit(unit, {name: made[name] for name in _needed(unit)})
            if not running:
                continue
            for news in executor.news():
                name = news.unit
                match news:
                    case Came(done=done, total=total):
                        if name in lanes:
                            display.inner(done, total, lanes.index(name))
                        continue
                    case Told(sentence=sentence):
                        display.tell(sentence)
                        continue
                    case Refused(sentence=sentence):
                        raise PrefdeltaError(sentence)
                    case Failed(error=error, traceback=traceback):
                        if traceback:
                            store.log(event="failed", artifact=name, error=error, traceback=traceback)
                        raise PrefdeltaError(
                            f"{name} failed unexpectedly: {error} (the traceback is in {store.root / JOURNAL}); "
                            "run the recipe again to continue."
                        )
                    case Lost(how=how):
                        lost[name] += 1
                        again = lost[name] <= RESUBMISSIONS
                        store.log(event="lost" if again else "failed", artifact=name, error=f"the worker {how}")
                        if not again:
                            raise PrefdeltaError(
                                f"the worker that made {name} {how}, {lost[name]} times; "
                                "run the recipe again to continue."
                            )
                        display.tell(f"The worker that made {name} {how}; the unit is handed out again.")
                        waiting.again(running[name])
                    case Made(artifact=artifact):
                        finished(name, artifact)
                del running[name]
                if name in lanes:
                    lanes[lanes.index(name)] = None
    return {unit.name: made[unit.name] for unit in units}


class _Waiting:
    """The units that are not handed out yet, in the order in which they are to be."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._heights = _heights(units)
        self._divided: set[str] = set()
        self._units = {unit.name: unit for unit in sorted(units, key=lambda unit: -self._heights[unit.name])}

    def __bool__(self) -> bool:
        return bool(self._units)

    def take(self, made: Container[str]) -> Unit | None:
        """The first unit all of whose inputs are made; where it waited for its shards, these too."""
        for unit in self._units.values():
            needed = _needed(unit) if unit.name in self._divided else unit.inputs.values()
            if all(name in made for name in needed):
                del self._units[unit.name]
                return unit
        return None

    def again(self, unit: Unit) -> None:
        """Put a unit back, before all others."""
        self._units = {unit.name: unit, **self._units}

    def for_shards(self, unit: Unit) -> bool:
        """Put a unit back to wait for its shards, and these before it; false if it has none, or has waited for them."""
        if not unit.shards or unit.name in self._divided:
            return False
        self._divided.add(unit.name)
        self._heights |= {shard.name: self._heights[unit.name] + 1 for shard in unit.shards}
        units = {shard.name: shard for shard in unit.shards} | {unit.name: unit} | self._units
        self._units = dict(sorted(units.items(), key=lambda entry: -self._heights[entry[0]]))
        return True


def _needed(unit: Unit) -> list[str]:
    """The artifacts that a unit is made of."""
    return [*unit.inputs.values(), *(shard.name for shard in unit.shards)]


def _heights(units: Sequence[Unit]) -> dict[str, int]:
    """How many units, one needing the other, come after each unit at most."""
    heights = dict.fromkeys((unit.name for unit in units), 0)
    for unit in reversed(units):
        for name in unit.inputs.values():
            heights[name] = max(heights[name], heights[unit.name] + 1)
    return heights
