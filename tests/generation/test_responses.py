"""Sampling all prompts with a kill in between, and importing answers."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from folders import contents
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Item, Sample, Span, read_rows, write_rows
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import Request
from prefdelta.generation.responses import import_responses, sample_responses
from prefdelta.recipe import Imported, Sampling
from tiny import tiny_model, tiny_tokenizer

ITEMS = [Item(f"i{number}", "t", ({"role": "user", "content": "?" * (number % 4)},)) for number in range(30)]
SAMPLING = Sampling(temperature=1, max_new_tokens=6, batch_size=3)


class Killed(BaseException):
    """Like a kill: nothing catches it."""


class Mortal:
    """A sampler that dies after some groups."""

    def __init__(self, sampler: TransformersSampler, groups: int) -> None:
        self._sampler = sampler
        self._left = groups
        self.together = sampler.together

    def describe(self) -> Mapping[str, Any]:
        return self._sampler.describe()

    def stream(self, requests: Sequence[Request], done: Container[int] = ()) -> Iterator[list[tuple[int, Sample]]]:
        for finished in self._sampler.stream(requests, done):
            if self._left == 0:
                raise Killed
            self._left -= 1
            yield finished


@pytest.fixture(scope="module")
def sampler() -> TransformersSampler:
    return TransformersSampler(LoadedModel(tiny_model(), tiny_tokenizer(), thinking=False), SAMPLING)


@pytest.fixture(scope="module")
def whole(sampler: TransformersSampler, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is left of a sampling that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    sample_responses(ITEMS, sampler, folder, seed=3)
    return contents(folder)


def test_responses_are_in_the_order_of_the_items(sampler: TransformersSampler, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    sample_responses(ITEMS, sampler, tmp_path, seed=3, progress=lambda done, total: seen.append((done, total)))
    rows = read_rows(tmp_path / "responses.jsonl", Sample)
    assert [row.item for row in rows] == [item.id for item in ITEMS]
    assert seen == [(0, 30), (12, 30), (24, 30), (30, 30)]
    assert list(contents(tmp_path)) == ["responses.jsonl"]


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_a_killed_run_ends_with_the_same_bytes(
    sampler: TransformersSampler, whole: dict[str, bytes], tmp_path: Path, groups: int
) -> None:
    with pytest.raises(Killed):
        sample_responses(ITEMS, Mortal(sampler, groups), tmp_path, seed=3)
    log = tmp_path / "answers.kept-rows"
    assert (len(log.read_text().splitlines()) if groups else 0) == 12 * groups
    rest = Mortal(sampler, 3 - groups)  # would die if a finished group were sampled again
    sample_responses(ITEMS, rest, tmp_path, seed=3)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_joined_shards_are_the_whole(tmp_path: Path, degree: int, count: int) -> None:
    """Thirty questions are three groups of twelve: the last of five shards that hold any is the fifth."""
    sampling = SAMPLING.model_copy(update={"temperature": degree})
    sampler = TransformersSampler(LoadedModel(tiny_model(), tiny_tokenizer(), thinking=False), sampling)
    made = []
    for shard in (WHOLE, *(Shard(number, count) for number in range(count))):
        (folder := tmp_path / f"{shard.number} of {shard.count}").mkdir()
        sample_responses(ITEMS, sampler, folder, seed=3, shard=shard)
        made.append(contents(folder)["responses.jsonl"])
    whole, *parts = made
    assert b"".join(parts) == whole
    assert [part.count(b"\n") for part in parts] == {2: [12, 18], 3: [12, 12, 6], 5: [0, 12, 0, 12, 6]}[count]


def test_the_seed_changes_answers(sampler: TransformersSampler, whole: dict[str, bytes], tmp_path: Path) -> None:
    sample_responses(ITEMS, sampler, tmp_path, seed=1)
    assert contents(tmp_path) != whole


def torn(log: bytearray, cut: int) -> None:
    del log[-cut:]


def flipped(log: bytearray, place: int) -> None:
    log[place] ^= 1


@pytest.mark.parametrize(
    ("harm", "place"), [(torn, 1), (torn, 100), (torn, 700), *((flipped, place) for place in (0, 40, 3000, -2, -1))]
)
def test_what_is_damaged_in_the_log_is_sampled_again(
    sampler: TransformersSampler,
    whole: dict[str, bytes],
    tmp_path: Path,
    harm: Callable[[bytearray, int], None],
    place: int,
) -> None:
    with pytest.raises(Killed):
        sample_responses(ITEMS, Mortal(sampler, 2), tmp_path, seed=3)
    log = bytearray((tmp_path / "answers.kept-rows").read_bytes())
    harm(log, place)
    (tmp_path / "answers.kept-rows").write_bytes(log)
    sample_responses(ITEMS, Mortal(sampler, 2), tmp_path, seed=3)  # the damaged group and the last one
    assert contents(tmp_path) == whole


def test_what_another_backend_or_seed_answered_is_not_taken(sampler: TransformersSampler, tmp_path: Path) -> None:
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    whole.mkdir()
    mixed.mkdir()
    sample_responses(ITEMS, sampler, whole, seed=4)
    with pytest.raises(Killed):
        sample_responses(ITEMS, Mortal(sampler, 2), mixed, seed=3)
    sample_responses(ITEMS, sampler, mixed, seed=4)
    assert contents(mixed) == contents(whole)


def test_several_answers_to_an_item_differ_and_hold_the_single_one(
    sampler: TransformersSampler, tmp_path: Path
) -> None:
    for n in (1, 3):
        (tmp_path / str(n)).mkdir()
        sample_responses(ITEMS, sampler, tmp_path / str(n), seed=3, n=n)
    one, three = (read_rows(tmp_path / str(n) / "responses.jsonl", Sample) for n in (1, 3))
    assert [(row.item, row.index) for row in three] == [(item.id, index) for item in ITEMS for index in range(3)]
    assert three[::3] == one  # rounding aside, which a batch of six tokens does not show
    texts = [{row.text for row in three[start : start + 3]} for start in range(0, 90, 3)]
    assert sum(len(found) == 3 for found in texts) > 25


def test_import_joins_by_item_and_keeps_the_items_order(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    samples = [Sample(f"i{number}", (Span(f"{number}"), Span("x", "environment")), "stop", 1) for number in (5, 2, 99)]
    write_rows(path, samples)
    imported = Imported(path=str(path), format="samples")
    assert import_responses(imported, ITEMS) == [samples[1], samples[0]]
    with pytest.raises(PrefdeltaError, match="none of the 2 prompts"):
        import_responses(imported, ITEMS[:2])
    write_rows(path, samples[:1] * 2)
    several = [Sample("i5", (), "stop", 0, index=index) for index in (1, 0)]
    write_rows(path, several)
    assert import_responses(imported, ITEMS) == several[::-1]
    write_rows(path, samples[:1] * 2)
    with pytest.raises(PrefdeltaError, match="'i5' twice"):
        import_responses(imported, ITEMS)
    with pytest.raises(PrefdeltaError, match="cannot read"):
        import_responses(Imported(path=str(tmp_path / "gone"), format="samples"), ITEMS)
