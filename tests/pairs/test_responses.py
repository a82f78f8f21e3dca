"""Sampling all prompts with a kill in between, and importing answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from prefdelta.errors import PrefdeltaError
from prefdelta.models import LoadedModel
from prefdelta.pairs.responses import import_responses, sample_responses
from prefdelta.pairs.sampling import Request, TransformersSampler
from prefdelta.recipe import Imported, Sampling
from prefdelta.records import Item, Sample, Span, read_rows, write_rows
from tiny import tiny_model, tiny_tokenizer

ITEMS = [Item(f"i{number}", "t", ({"role": "user", "content": "?" * (number % 4)},)) for number in range(30)]
SAMPLING = Sampling(temperature=1, max_new_tokens=6, batch_size=3)


class Killed(BaseException):
    """Like a kill: nothing catches it."""


class Mortal:
    """A sampler that dies after some shards."""

    def __init__(self, sampler: TransformersSampler, shards: int) -> None:
        self._sampler = sampler
        self._left = shards
        self.shard_size = sampler.shard_size

    def sample(self, requests: Sequence[Request]) -> list[Sample]:
        if self._left == 0:
            raise Killed
        self._left -= 1
        return self._sampler.sample(requests)


@pytest.fixture(scope="module")
def sampler() -> TransformersSampler:
    return TransformersSampler(LoadedModel(tiny_model(), tiny_tokenizer(), thinking=False), SAMPLING, None, 0)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_responses_are_in_the_order_of_the_items(sampler: TransformersSampler, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    sample_responses(ITEMS, sampler, tmp_path, seed=3, progress=lambda done, total: seen.append((done, total)))
    rows = read_rows(tmp_path / "responses.jsonl", Sample)
    assert [row.item for row in rows] == [item.id for item in ITEMS]
    assert seen == [(12, 30), (24, 30), (30, 30)]
    assert list(_content(tmp_path)) == ["responses.jsonl"]


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_a_killed_run_ends_with_the_same_bytes(sampler: TransformersSampler, tmp_path: Path, shards: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    sample_responses(ITEMS, sampler, whole, seed=3)
    with pytest.raises(Killed):
        sample_responses(ITEMS, Mortal(sampler, shards), broken, seed=3)
    assert len(list(broken.glob("shards/*.jsonl"))) == shards
    rest = Mortal(sampler, 3 - shards)  # would die if a finished shard were sampled again
    sample_responses(ITEMS, rest, broken, seed=3)
    assert _content(broken) == _content(whole)


def test_the_seed_changes_answers(sampler: TransformersSampler, tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        sample_responses(ITEMS, sampler, tmp_path / str(seed), seed=seed)
    assert _content(tmp_path / "0") != _content(tmp_path / "1")


def test_import_joins_by_item_and_keeps_the_items_order(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    samples = [Sample(f"i{number}", (Span(f"{number}"), Span("x", "environment")), "stop", 1) for number in (5, 2, 99)]
    write_rows(path, samples)
    imported = Imported(path=str(path), format="samples")
    assert import_responses(imported, ITEMS) == [samples[1], samples[0]]
    with pytest.raises(PrefdeltaError, match="none of the 2 prompts"):
        import_responses(imported, ITEMS[:2])
    write_rows(path, samples[:1] * 2)
    with pytest.raises(PrefdeltaError, match="'i5' twice"):
        import_responses(imported, ITEMS)
    with pytest.raises(PrefdeltaError, match="cannot read"):
        import_responses(Imported(path=str(tmp_path / "gone"), format="samples"), ITEMS)
