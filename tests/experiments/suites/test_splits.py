"""Splits share no group, and depend on nothing but the rows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.experiments.suites.data.rows import Row
from prefdelta.experiments.suites.data.splits import split


def rows(groups: int, each: int) -> list[Row]:
    return [
        Row((f"premise {group}", f"hypothesis {number}"), str(number % 2), f"premise {group}")
        for group in range(groups)
        for number in range(each)
    ]


@given(st.integers(5, 40), st.integers(1, 4), st.integers(0, 30))
def test_no_group_is_in_two_splits_and_nothing_is_lost(groups: int, each: int, pretrain: int) -> None:
    every = rows(groups, each)
    parts = split(every, {"pretrain": pretrain})
    held = [{row.group for row in parts[name]} for name in ("train", "validation", "test")]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    assert sorted(map(repr, [*parts["train"], *parts["validation"], *parts["test"]])) == sorted(map(repr, every))
    assert {row.group for row in parts["pretrain"]} <= held[0]
    assert len(parts["pretrain"]) == min(pretrain, len(parts["train"]))


def test_the_order_of_the_rows_does_not_matter() -> None:
    every = rows(30, 3)
    shuffled = random.Random(1).sample(every, len(every))
    assert split(every, {"train": 20, "pretrain": 7}) == split(shuffled, {"train": 20, "pretrain": 7})


def test_a_source_keeps_its_own_splits() -> None:
    every = [Row((str(number), "x"), str(number % 2), str(number), part) for number in range(20) for part in ("train",)]
    every += [Row((f"t{number}", "x"), str(number % 2), f"t{number}", "test") for number in range(5)]
    parts = split(every, {})
    assert {row.group for row in parts["test"]} == {f"t{number}" for number in range(5)}
    assert (len(parts["train"]), len(parts["validation"])) == (16, 4)
    every += [Row((f"v{number}", "x"), "0", f"v{number}", "validation") for number in range(3)]
    assert {row.group for row in split(every, {})["validation"]} == {"v0", "v1", "v2"}


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_pretraining_overlaps_with_training_only_where_there_is_too_little(limit: int) -> None:
    parts = split(rows(40, 1), {"pretrain": 10, "train": 16})
    assert not set(map(repr, parts["pretrain"])) & set(map(repr, parts["train"]))
    parts = split(rows(40, 1), {"pretrain": limit})
    assert set(map(repr, parts["pretrain"])) <= set(map(repr, parts["train"]))
