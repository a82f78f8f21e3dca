"""Sweeps over preferences."""

from __future__ import annotations

from learning.conftest import Case
from prefdelta.learning.front import grid, sweep, towards, undominated
from prefdelta.recipe.learning import Learning
from tiny_tasks import make_tasks


def test_preferences_of_a_sweep():
    assert len(grid(3, 4)) == 15
    assert all(sum(preference) == 1 for preference in grid(3, 4))
    assert towards(1, 3, [0.5]) == [(0.25, 0.5, 0.25)]


def test_the_front_keeps_equals_and_drops_the_dominated():
    points = [{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 0.0}, {"a": 1.0, "b": 0.9}]
    assert undominated(points) == [True, True, True, False]


def test_sweep(vit: Case, tmp_path):
    settings = Learning(steps=8, learning_rate=0.1, scalarisation="linear")
    tasks = make_tasks(vit.kind, 3, rows=4, batch_size=4)
    seen: list[tuple[int, int]] = []
    preferences = towards(2, 3, [0.1, 0.9])
    reports = sweep(
        vit.model,
        vit.adapters,
        tasks,
        preferences,
        method="tara-a",
        folder=tmp_path,
        settings=settings,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [tuple(report.settings["preference"]) for report in reports] == preferences
    assert seen == [(done, 16) for done in range(1, 17)]
    assert reports[0].tasks[2].last > reports[1].tasks[2].last
    assert (tmp_path / "1" / "adapter_model.safetensors").is_file()
