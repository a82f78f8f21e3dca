"""Merges whose scale a base model chooses: what is written, that nothing is asked twice, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefdelta import merge, micro
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import write_rows
from prefdelta.merging import engine
from prefdelta.merging.tuning import RECORD_NAME, TuningRecord
from prefdelta.merging.tuning.objectives import Information
from prefdelta.recipe import Sampling

SAMPLING = Sampling(temperature=1.0, max_new_tokens=32, batch_size=64)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "prompts.jsonl"
    write_rows(path, micro.items("chain", split="train", count=12))
    return path


def calibrated(deltas: list[Path], output: Path, prompts: Path, **arguments: Any) -> Any:
    asked = {"base": "micro:student", "prompts": [str(prompts)], "sampling": SAMPLING, "budget": 5}
    return merge(deltas[:2], output, method="ties", scale="agreement", **{**asked, **arguments})


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(deltas: list[Path], prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "merged"
    report = calibrated(deltas, output, prompts, weights=(1.0, 2.0), options={"density": 0.5})
    assert (report.options["density"], [entry.weight for entry in report.adapters]) == (0.5, [1.0, 2.0])
    return output


def test_the_folder_is_that_of_the_merge_at_the_best_scale(whole: Path, deltas: list[Path], tmp_path: Path) -> None:
    record = TuningRecord.model_validate_json((whole / RECORD_NAME).read_text())
    assert (record.by, record.average, record.singles, record.gain) == ("agreement", None, (), None)
    assert {trial.method for trial in record.trials} == {"ties"}
    best = max(record.trials, key=lambda trial: trial.score)
    assert record.choice == best
    assert record.range is not None
    assert record.range[0] <= float(best.scale) <= record.range[1]
    assert record.guard.kl > 0
    engine.merge(
        deltas[:2], tmp_path / "m", method="ties", scale=best.scale, weights=(1.0, 2.0), options={"density": 0.5}
    )
    name = "adapter_model.safetensors"
    assert (tmp_path / "m" / name).read_bytes() == (whole / name).read_bytes()


def test_after_an_interruption_nothing_is_asked_twice(
    whole: Path, deltas: list[Path], prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = [], Information.__call__

    def counted(self: Information, adapter: Any) -> Any:
        asked.append(1)
        return answer(self, adapter)

    def stopping(after: int) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            if done == after:
                raise KeyboardInterrupt

        return progress

    monkeypatch.setattr(Information, "__call__", counted)
    arguments: dict[str, Any] = {"weights": (1.0, 2.0), "options": {"density": 0.5}}
    with pytest.raises(KeyboardInterrupt):
        calibrated(deltas, tmp_path / "merged", prompts, progress=stopping(3), **arguments)
    assert not (tmp_path / "merged").exists()
    calibrated(deltas, tmp_path / "merged", prompts, **arguments)
    assert len(asked) == 6  # the base and five λ
    assert hashes(tmp_path / "merged") == hashes(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"scale": "agreement", "base": "micro:student"},
            "--scale agreement asks the base model; give --base and --pro",
        ),
        ({"scale": "pairs", "prompts": ["x.jsonl"]}, "--scale pairs asks the base model; give --base and --pairs"),
        ({"scale": 2.0, "base": "micro:student"}, "a base, prompts and pairs choose the scale"),
    ],
)
def test_what_is_missing_is_told(deltas: list[Path], tmp_path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(PrefdeltaError, match=message):
        merge(deltas[:2], tmp_path / "m", method="average", **arguments)
    assert not list(tmp_path.iterdir())
