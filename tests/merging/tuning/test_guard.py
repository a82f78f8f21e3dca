"""What guards a choice made without labels, on scripted answers: a mistake that is always made, and a right merge."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from prefdelta.adapters import Adapter
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Item
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.merging.tuning.candidate import Candidate
from prefdelta.merging.tuning.guard import guard_of, shared_with_base
from prefdelta.merging.tuning.objectives import Answers, Information, Measured
from prefdelta.merging.tuning.validation import Validation
from prefdelta.recipe import Sampling

COUNT = 120
MERGE = Candidate.plain([0, 1], "average", 1.0)


def drawn(right: float, wrong: float, seed: int) -> Answers:
    """Two answers to each question: the right one, one mistake that is always the same, or one of many at random."""
    rng = random.Random(seed)

    def answer(question: int) -> str:
        kind = rng.random()
        if kind < right:
            return f"right {question}"
        return f"wrong {question}" if kind < right + wrong else f"noise {rng.randrange(1000)}"

    return [[[answer(question) for question in range(COUNT)]] for _ in range(2)]


@pytest.fixture
def validation(student: LoadedModel, deltas: list[Path], tmp_path: Path) -> Validation:
    items = {
        "task": [Item(str(number), "task", ({"role": "user", "content": str(number)},), ()) for number in range(COUNT)]
    }
    objective = Information(Evaluator(student), items=items, scorers={"task": "exact-match"}, sampling=Sampling())
    kept = ResumableRows(tmp_path / "kept")
    kept.add([("base", Measured(0.1, [], 0.0, 0.0, drawn(0.35, 0.0, 0)).plain())])
    found = Validation(objective, [Adapter.open(path) for path in deltas[:2]], options={}, kept=kept)
    for scale, right, wrong in ((1.0, 0.4, 0.0), (2.0, 0.6, 0.0), (4.0, 0.8, 0.0), (8.0, 0.0, 0.9)):
        found.measured[MERGE.at(scale)] = Measured(0.0, [], 0.0, 0.0, drawn(right, wrong, int(scale)))
    return found


def test_a_merge_that_agrees_with_itself_on_a_mistake_is_told_of(validation: Validation) -> None:
    shared = shared_with_base(validation, MERGE.at(8.0))
    assert shared is not None
    assert shared.at == 4.0
    assert shared.chosen == pytest.approx(0.0, abs=0.02)
    assert shared.most == pytest.approx(0.35 * 0.8, abs=0.08)
    (warning,) = guard_of(0.1, 0.0, 0.0, shared).warnings
    assert "λ = 4" in warning
    assert "mistake" in warning


def test_a_merge_that_gets_better_keeps_what_it_shares_with_the_base(validation: Validation) -> None:
    shared = shared_with_base(validation, MERGE.at(4.0))
    assert shared is not None
    assert shared.chosen > shared.most
    guard = guard_of(0.1, 0.0, 0.0, shared)
    assert guard.warnings == []
    assert guard.shared == pytest.approx(shared.chosen, abs=1e-3)
    assert guard.shared_most_at == 2.0


def test_without_a_smaller_scale_or_answers_there_is_nothing_to_compare(validation: Validation) -> None:
    assert shared_with_base(validation, MERGE.at(1.0)) is None
    other = Candidate.plain([0], "average", 8.0)
    validation.measured[other] = Measured(0.0, [], None)
    assert shared_with_base(validation, other) is None
