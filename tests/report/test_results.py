"""Typed results: what is written can be read, and the published schema is the models'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.results import Interval
from prefdelta.report.results import read_results, results_schema
from report_sample import sample

SCHEMA = Path(__file__).parents[2] / "docs" / "results.schema.json"


def test_the_published_schema_is_that_of_the_models() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == results_schema(), (
        "docs/results.schema.json is stale; write it again: "
        "python -c 'from prefdelta.report.results import results_schema; print(results_schema(), end=str())' "
        "> docs/results.schema.json"
    )


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    results = sample((0,), ("search",)).results
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results.to_json()))
    assert read_results(path) == results
    assert "watch" not in results.to_json()["domains"]["search"]  # a section that the run does not have
    student = results.to_json()["domains"]["search"]["methods"]["student"]
    assert student["average"]["vs_student"] is None  # not a section: the student has no difference to itself
    assert student["scale"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, "has the layout 1, and this version of prefdelta reads layout 2"),
        ({"kind": "dance"}, "cannot be read .*'dance'"),
        ({"seeds": "all"}, "cannot be read .*seeds"),
        ({"tempo": 3}, "cannot be read .*tempo"),
    ],
)
def test_other_layouts_are_refused_in_a_sentence(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**sample((0,), ("search",)).results.to_json(), **change}))
    with pytest.raises(PrefdeltaError, match=message) as found:
        read_results(path)
    assert "\n" not in str(found.value)
    assert "prefdelta report" in str(found.value)


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(PrefdeltaError, match="No such file"):
        read_results(path)
    for text in ("[1,", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(PrefdeltaError, match="cannot be read"):
            read_results(path)
    path.write_text("[]")
    with pytest.raises(PrefdeltaError, match="layout None"):
        read_results(path)


def test_numbers_are_rounded_and_zero_has_no_sign() -> None:
    found = Interval(mean=-0.00001, low=-1.23456, high=1.23456, seed_noise=True, detectable=1)
    assert (str(found.mean), found.low, found.high) == ("0.0", -1.2346, 1.2346)
    assert found.text == "0.0 [−1.2, +1.2]"
    with pytest.raises(ValidationError):
        Interval(mean=0, low=0, high=0, seed_noise=True, detectable=1, width=2)  # type: ignore[call-arg]
