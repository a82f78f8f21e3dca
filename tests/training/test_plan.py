"""The plan of a training: every row once an epoch, and batches that do not depend on how they are cut."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import Training
from prefdelta.training.plan import check_learns, count_steps, plan_steps

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)
SIZE = st.integers(1, 12)


@given(LENGTHS, SIZE, SIZE, st.integers(1, 3), st.integers(0, 5))
def test_every_row_is_seen_once_an_epoch(lengths: list[int], batch: int, micro: int, epochs: int, seed: int) -> None:
    steps = plan_steps(lengths, batch_size=batch, micro_batch_size=micro, epochs=epochs, seed=seed)
    an_epoch = math.ceil(len(lengths) / batch)
    assert len(steps) == an_epoch * epochs
    for start in range(0, len(steps), an_epoch):
        seen = [row for step in steps[start : start + an_epoch] for part in step for row in part]
        assert sorted(seen) == list(range(len(lengths)))
    assert all(1 <= len(part) <= micro for step in steps for part in step)


@given(LENGTHS, SIZE, SIZE, SIZE, st.integers(0, 5))
def test_micro_batches_decide_nothing(lengths: list[int], batch: int, one: int, other: int, seed: int) -> None:
    plans = [
        plan_steps(lengths, batch_size=batch, micro_batch_size=micro, epochs=1, seed=seed) for micro in (one, other)
    ]
    flat = [[[row for part in step for row in part] for step in plan] for plan in plans]
    assert flat[0] == flat[1]


def test_the_seed_decides_the_order_and_epochs_differ() -> None:
    lengths = [1] * 30
    first, again, other = (
        plan_steps(lengths, batch_size=30, micro_batch_size=30, epochs=2, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    one_by_one = [plan_steps(lengths, batch_size=1, micro_batch_size=1, epochs=1, seed=seed) for seed in (1, 2)]
    assert one_by_one[0] != one_by_one[1]
    halves = plan_steps(lengths, batch_size=15, micro_batch_size=15, epochs=2, seed=1)
    assert halves[0] != halves[2]
    assert other == first  # one batch holds all rows, in the order of the rows


def test_a_fraction_of_an_epoch_ends_early() -> None:
    steps = plan_steps([3] * 10, batch_size=4, micro_batch_size=4, epochs=1.5, seed=0)
    assert [sum(map(len, step)) for step in steps] == [4, 4, 2, 4, 1]


@given(st.integers(1, 60), SIZE, st.floats(0.1, 3))
def test_the_number_of_steps_is_known_beforehand(rows: int, batch: int, epochs: float) -> None:
    steps = plan_steps([1] * rows, batch_size=batch, micro_batch_size=batch, epochs=epochs, seed=0)
    assert count_steps(rows, Training(batch_size=batch, epochs=epochs)) == len(steps)


def test_a_training_of_one_step_learns_without_a_warm_up_only() -> None:
    with pytest.raises(PrefdeltaError, match=r"1 optimiser step \(96 rows, batch_size 128, epochs 1\).*warmup_ratio=0"):
        check_learns(96, Training())
    for training in (Training(warmup_ratio=0), Training(batch_size=48), Training(epochs=2)):
        check_learns(96, training)
