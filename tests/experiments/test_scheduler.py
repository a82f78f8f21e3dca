"""The scheduler: order, losses and failures, with units that are not made and an executor that only reports."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.progress import Display
from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.execution.scheduler import RESUBMISSIONS, Executor, Failed, Lost, Made, News, execute
from prefdelta.experiments.unit import Unit


def unit(name: str, *inputs: str, shards: int = 0) -> Unit:
    parts = tuple(unit(f".shards/{name}/{number}", *inputs) for number in range(shards))
    needed = {name: name for name in inputs}
    return Unit(name, "stage", {}, needed, make=lambda *_: pytest.fail("made here"), shards=parts)


class Reports(Executor):
    """Takes up to ``room`` units, and reports on a random one of them: made, or lost with the given chance."""

    lanes = 2

    def __init__(self, room: int, loss: float, draw: random.Random) -> None:
        self._room, self._loss, self._draw = room, loss, draw
        self.handed: list[str] = []
        self._out: list[str] = []

    def free(self) -> bool:
        return len(self._out) < self._room

    def submit(self, unit: Unit, inputs: Mapping[str, Artifact]) -> None:
        assert set(inputs) == {*unit.inputs.values(), *(shard.name for shard in unit.shards)}
        assert self.free()
        self.handed.append(unit.name)
        self._out.append(unit.name)

    def news(self) -> Iterator[News]:
        name = self._out.pop(self._draw.randrange(len(self._out)))
        most = self.handed.count(name) > RESUBMISSIONS
        lost = not most and self._draw.random() < self._loss
        yield Lost(name, "was lost") if lost else Made(name, Artifact(Path(name), name))


@pytest.mark.parametrize("seed", range(20))
def test_all_units_are_made_after_their_inputs_whatever_is_lost(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    units: list[Unit] = []
    for number in range(30):
        names = [each.name for each in units]
        needed = draw.sample(names, min(len(names), draw.randrange(3)))
        units.append(unit(f"u{number}", *needed, shards=draw.choice((0, 0, 2, 3))))
    executor = Reports(draw.randrange(1, 5), 0.4, draw)
    made = execute(units, Store(tmp_path), executor, Display(None))
    assert list(made) == [each.name for each in units]
    times = Counter(executor.handed)
    assert set(times) == {part.name for each in units for part in (each, *each.shards)}
    journal = tmp_path / "journal.jsonl"
    lost = len(journal.read_text().splitlines()) if journal.is_file() else 0
    assert sum(times.values()) - len(times) == lost > 0


def test_the_longest_chain_goes_first(tmp_path: Path) -> None:
    units = [unit("alone"), unit("first"), unit("second", "first"), unit("third", "second")]
    executor = Reports(1, 0.0, random.Random(0))
    execute(units, Store(tmp_path), executor, Display(None))
    assert executor.handed == ["first", "second", "alone", "third"]


def test_shards_go_side_by_side_and_before_shorter_chains(tmp_path: Path) -> None:
    units = [unit("alone"), unit("first", shards=3), unit("second", "first")]
    executor = Reports(2, 0.0, random.Random(0))
    execute(units, Store(tmp_path), executor, Display(None))
    assert set(executor.handed[:2]) < set(executor.handed[:3]) == {f".shards/first/{number}" for number in range(3)}
    assert executor.handed.index("first") < executor.handed.index("second")


def test_the_shards_of_what_is_there_are_not_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = unit("whole", shards=3)
    store.build("whole", stage="stage", config={"externals": {}}, inputs={}, make=lambda work: None)
    executor = Reports(2, 0.0, random.Random(0))
    assert list(execute([whole, unit("next", "whole")], store, executor, Display(None))) == ["whole", "next"]
    assert executor.handed == ["next"]


def test_a_unit_that_is_lost_again_and_again_and_one_that_fails_are_told(tmp_path: Path) -> None:
    class Loses(Reports):
        def news(self) -> Iterator[News]:
            yield Lost(self._out.pop(), "was lost")

    executor = Loses(1, 1.0, random.Random(0))
    with pytest.raises(PrefdeltaError, match=f"the worker that made u was lost, {RESUBMISSIONS + 1} times"):
        execute([unit("u")], Store(tmp_path), executor, Display(None))

    class Fails(Reports):
        def news(self) -> Iterator[News]:
            yield Failed(self._out.pop(), "KeyError: x", traceback="where it was")

    with pytest.raises(PrefdeltaError, match=r"u failed unexpectedly: KeyError: x \(the traceback is in "):
        execute([unit("u")], Store(tmp_path), Fails(1, 0.0, random.Random(0)), Display(None))
    events = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["lost"] * RESUBMISSIONS + ["failed", "failed"]
    assert events[-1]["traceback"] == "where it was"
