"""A student in a folder, and preference pairs of random answers with a search in them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from prefdelta.core.records import Pair, Sample, Span, Triple
from prefdelta.recipe import Lora, ModelRef, Training
from prefdelta.training.data import Row, make_rows
from tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    folder = tmp_path_factory.mktemp("student")
    tiny_model(0).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelRef(path=str(folder))


@pytest.fixture(scope="session")
def make_pairs() -> Callable[..., list[Pair]]:
    return _pairs


@pytest.fixture(scope="session")
def make_triples() -> Callable[..., list[Triple]]:
    return _triples


@pytest.fixture(scope="session")
def rows() -> tuple[Row, ...]:
    return make_rows(_pairs(8), tiny_tokenizer(), thinking=False, max_length=512).rows


@pytest.fixture
def settings() -> Callable[..., Training]:
    return _settings


def _settings(**changes: object) -> Training:
    """A short training with a visible effect."""
    lora = {"r": 4, "alpha": 8.0, **changes.pop("lora", {})}  # type: ignore[dict-item]
    usual = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "warmup_ratio": 0.0, "checkpoint_steps": 2}
    return Training(**{**usual, **changes}, lora=Lora(**lora))  # type: ignore[arg-type]


def _pairs(count: int, seed: int = 0, *, search: bool = True) -> list[Pair]:
    draw = random.Random(seed)
    return [
        Pair(
            id=str(number),
            task="words",
            prompt=({"role": "user", "content": f"{number} {_word(draw)}?"},),
            chosen=_sample(number, draw, search),
            rejected=_sample(number, draw, search),
        )
        for number in range(count)
    ]


def _triples(count: int, seed: int = 0) -> list[Triple]:
    sources, pairs = _pairs(count, seed + 1), _pairs(count, seed)
    return [
        Triple(pair.id, pair.task, pair.prompt, source.chosen, pair.chosen, pair.rejected)
        for source, pair in zip(sources, pairs, strict=True)
    ]


def _sample(number: int, draw: random.Random, search: bool) -> Sample:
    asked = (Span(f"<search>{_word(draw)}</search>"), Span(f"<information>{_word(draw)}</information>", "environment"))
    finish = "stop" if draw.random() < 0.8 else "length"
    answer = Span(f"<answer>{_word(draw)}</answer>")
    return Sample(str(number), (*asked, answer) if search else (answer,), finish, 9)  # type: ignore[arg-type]


def _word(draw: random.Random) -> str:
    return "".join(draw.choice("abcdefgh ") for _ in range(draw.randint(1, 9)))
