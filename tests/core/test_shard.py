"""Shards are all entries in order, and cut no group of entries that are computed together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefdelta.core.shard import WHOLE, Shard, group_count


@given(st.integers(0, 200), st.integers(1, 20), st.integers(1, 30))
def test_shards_in_order_are_all_entries_and_hold_whole_groups(entries: int, together: int, count: int) -> None:
    everything = list(range(entries))
    parts = [Shard(number, count).of(everything, together) for number in range(count)]
    assert [entry for part in parts for entry in part] == everything
    for part in parts:
        assert not part or part[0] % together == 0
        assert not part or part[-1] % together == together - 1 or part[-1] == entries - 1
    groups = [group_count(len(part), together) for part in parts]
    assert sum(groups) == group_count(entries, together)
    assert max(groups) - min(groups) <= 1


def test_the_whole_is_all_of_it() -> None:
    assert list(WHOLE.of(range(7), 3)) == list(range(7))
    assert WHOLE.is_last
    assert [Shard(number, 3).is_last for number in range(3)] == [False, False, True]
