"""The curves of long logs: fewer points, at their own steps, and both ends as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefdelta.merging.learned.report import LOG, LearningReport, TaskReport
from prefdelta.report.viewer.process import run_state
from prefdelta.report.viewer.tuned import learned_view

STEPS = 1001


@pytest.mark.parametrize("steps", [3, 400, 401, STEPS])
def test_a_long_training_keeps_its_first_and_its_last_step(tmp_path: Path, steps: int) -> None:
    folder = tmp_path / "d" / ".elm.partial"
    folder.mkdir(parents=True)
    (folder / ".key").write_text("key")
    rows = [{"step": step, "loss": 1 / step} for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (training,) = run_state(tmp_path, finished=False).trainings
    assert (training.steps[0], training.steps[-1]) == (1, steps)
    assert training.metrics["loss"] == [1 / step for step in training.steps]
    assert len(training.steps) <= 401


def test_a_long_learning_is_drawn_at_its_own_steps(tmp_path: Path) -> None:
    rows = [{"step": step, "objectives": {"t": 1 / step}} for step in range(1, STEPS + 1)]
    (tmp_path / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = LearningReport(
        prefdelta="0", method="ada-task", paper="", settings={}, seed=0, adapters={}, coefficients=1, stored_ranks=(1,),
        first_total=1, last_total=1 / STEPS,
        tasks=(TaskReport(name="t", anchor=None, first=1, last=1 / STEPS, last_weight=1),),
    )  # fmt: skip
    ((curve,),) = (chart.curves for chart in learned_view(tmp_path, report).charts)
    assert (curve.rows[0], curve.rows[-1]) == ([1.0, 1.0], [float(STEPS), 1 / STEPS])
    assert all(value == 1 / step for step, value in curve.rows if step)
