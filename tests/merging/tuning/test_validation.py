"""Candidates on the embedded student: what is scored is what would be written, each once, all on the same items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lora_fixtures import THREE_MERGED
from prefdelta import micro
from prefdelta.adapters import Adapter
from prefdelta.core.models import LoadedModel, load
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.merging import merge
from prefdelta.merging.scale import Scale
from prefdelta.merging.tuning import Candidate
from prefdelta.merging.tuning.objectives import Labels
from prefdelta.merging.tuning.record import TuningRecord
from prefdelta.merging.tuning.validation import Validation
from prefdelta.recipe import ModelRef, Sampling

STUDENT = ModelRef(path="micro:student")
ITEMS = {"chain": micro.items("chain", split="validation", count=32)}
SAMPLING = Sampling(temperature=1.0, max_new_tokens=40, batch_size=64)
SCORERS = {"chain": "exact-match"}


@pytest.fixture
def validation(student: LoadedModel, deltas: list[Path]) -> Validation:
    return validate(student, deltas)


def validate(
    student: LoadedModel,
    folders: list[Path],
    options: dict[str, dict[str, object]] | None = None,
    scored: Callable[[], None] | None = None,
) -> Validation:
    return Validation(
        Labels(Evaluator(student), items=ITEMS, scorers=SCORERS, sampling=SAMPLING),
        [Adapter.open(folder) for folder in folders],
        options=options or {},
        scored=scored,
    )


@pytest.mark.parametrize(("method", "weights", "scale"), THREE_MERGED)
def test_the_objective_is_the_written_merges_score(
    validation: Validation,
    student: LoadedModel,
    deltas: list[Path],
    tmp_path: Path,
    method: str,
    weights: tuple[float, ...],
    scale: Scale,
) -> None:
    candidate = Candidate((0, 1, 2), weights, method, scale)
    before = {name: tensor.clone() for name, tensor in student.model.state_dict().items()}
    score = validation(candidate)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.model.state_dict().items())
    options = validation.options(candidate)
    merge(deltas, tmp_path / "merged", method=method, weights=weights, scale=scale, options=options)
    records = Evaluator(load(STUDENT)).evaluate(tmp_path / "merged", 1.0, ITEMS, SCORERS, SAMPLING)
    assert score == np.mean([record.score for record in records])


def test_each_candidate_is_scored_once(student: LoadedModel, deltas: list[Path]) -> None:
    calls: list[None] = []
    validation = validate(student, deltas, scored=lambda: calls.append(None))
    candidate = Candidate.plain((0, 1), "average", 2.0)
    assert validation(candidate) == validation(candidate)
    assert len(calls) == 1
    assert list(validation.measured) == [candidate]


def test_differences_are_paired(validation: Validation) -> None:
    good, bad = Candidate.plain((0, 1), "average", 2.0), Candidate.plain((2,), "average", 4.0)
    gain = validation(good) - validation(bad)
    difference = validation.difference(good, bad)
    assert difference.mean == pytest.approx(gain)
    assert difference.mean == -validation.difference(bad, good).mean
    assert difference.items == 32
    same = validation.difference(good, good)
    assert same.mean == 0.0
    assert same.low < 0.0 < same.high  # 32 equal answers do not prove that there is no difference


def test_gam_aligns_to_the_member_that_does_best(validation: Validation) -> None:
    singles = [validation(Candidate.plain([member], "average", 1.0)) for member in range(3)]
    best = max(range(3), key=lambda member: singles[member])
    assert validation.options(Candidate.plain((0, 1, 2), "gam", 1.0)) == {"reference": best}
    second = max((member for member in range(3) if member != best), key=lambda member: singles[member])
    rest = tuple(member for member in range(3) if member != best)
    assert validation.options(Candidate.plain(rest, "gam", 1.0)) == {"reference": rest.index(second)}
    assert validation.options(Candidate.plain((0, 1), "average", 1.0)) == {}


def test_a_given_reference_is_counted_among_the_members(student: LoadedModel, deltas: list[Path]) -> None:
    given = validate(student, deltas, {"gam": {"reference": 2, "tolerance": 1e-6}})
    assert given.options(Candidate.plain((1, 2), "gam", 1.0)) == {"reference": 1, "tolerance": 1e-6}
    assert given.options(Candidate.plain((1,), "gam", 1.0)) == {"reference": 0, "tolerance": 1e-6}
    chordal = validate(student, deltas, {"gam": {"reference": "chordal-mean"}})
    assert chordal.options(Candidate.plain((0, 1), "gam", 1.0)) == {"reference": "chordal-mean"}


Search = Callable[..., TuningRecord]
