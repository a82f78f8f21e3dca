"""Validation and test items: disjoint, stable, and refused where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, write_rows
from prefdelta.evaluation.benchmarks import BENCHMARKS, EXACT_MATCH, BenchmarkSource, benchmark_items
from prefdelta.recipe import Benchmark, Questions, configure


def items(count: int, start: int = 0) -> list[Item]:
    return [Item(f"i{n}", "t", ({"role": "user", "content": str(n)},), ("x",)) for n in range(start, start + count)]


def benchmark(tmp_path: Path, rows: list[Item], **settings: object) -> Benchmark:
    path = tmp_path / "items.jsonl"
    write_rows(path, rows)
    return Benchmark(name="b", questions=Questions(source=str(path)), **settings)  # type: ignore[arg-type]


def test_one_split_is_divided_without_overlap(tmp_path: Path) -> None:
    divided = benchmark(tmp_path, items(50), validation=20, test=100)
    validation, test = benchmark_items(divided, "validation"), benchmark_items(divided, "test")
    assert len(validation) == 20
    assert {item.id for item in validation} | {item.id for item in test} == {f"i{n}" for n in range(50)}
    assert len(test) == 30


def test_the_draw_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    forward = benchmark_items(benchmark(tmp_path, items(50), validation=5, test=10), "test")
    backward = benchmark_items(benchmark(tmp_path, items(50)[::-1], validation=5, test=10), "test")
    assert forward == backward
    assert [item.id for item in forward] != sorted(item.id for item in forward)


def test_test_items_are_the_same_whatever_their_number(tmp_path: Path) -> None:
    few = benchmark_items(benchmark(tmp_path, items(50), validation=5, test=10), "test")
    many = benchmark_items(benchmark(tmp_path, items(50), validation=5, test=20), "test")
    assert many[:10] == few


def test_two_splits_of_one_file(tmp_path: Path) -> None:
    rows = items(200)
    path = tmp_path / "items.jsonl"
    write_rows(path, rows)
    questions = Questions(source=str(path), split="test")
    both = Benchmark(name="b", questions=questions, validation_split="validation", validation=1000, test=1000)
    validation, test = benchmark_items(both, "validation"), benchmark_items(both, "test")
    assert validation
    assert test
    assert not {item.id for item in validation} & {item.id for item in test}
    assert len(validation) + len(test) < 200  # the rest is for training


def test_splits_that_share_items_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    write_rows(path, items(50))
    questions = Questions(source=str(path), split="test")
    shared = Benchmark(name="b", questions=questions, validation_split="test")
    with pytest.raises(PrefdeltaError, match="is in both the validation split 'test' and the test split 'test'"):
        benchmark_items(shared, "test")


def test_no_items_left_is_an_error_and_none_wanted_is_not(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="no test item is left"):
        benchmark_items(benchmark(tmp_path, items(10), validation=10), "test")
    assert benchmark_items(benchmark(tmp_path, items(10), validation=0), "validation") == []


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"two items of .* have the id 'i3'"):
        benchmark_items(benchmark(tmp_path, [*items(5), *items(1, start=3)]), "test")


def test_repeated_ids_of_a_registered_benchmark_are_refused() -> None:
    source = BenchmarkSource("two-alike", lambda options: [*items(9), *items(1)], EXACT_MATCH)
    BENCHMARKS.register("two-alike", source)
    raw = {"name": "b", "benchmark": {"name": "two-alike"}, "validation": 2, "test": 3}
    with pytest.raises(PrefdeltaError, match=r"two items of benchmark:two-alike have the id 'i0'"):
        benchmark_items(configure(Benchmark, raw, origin="test"), "test")


def test_embedded_tasks_bring_their_own_splits() -> None:
    embedded = Benchmark(name="b", questions=Questions(source="micro:reasoning"), validation=30, test=40)
    validation, test = benchmark_items(embedded, "validation"), benchmark_items(embedded, "test")
    assert (len(validation), len(test)) == (30, 40)
    assert not {item.id for item in validation} & {item.id for item in test}
