"""A student in a folder, and rows that it can be trained on."""

from __future__ import annotations

import pytest

from prefdelta.recipe import ModelRef
from prefdelta.training.data import Row, make_rows
from tiny import tiny_model, tiny_tokenizer
from training_runs import make_pairs


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    folder = tmp_path_factory.mktemp("student")
    tiny_model(0).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelRef(path=str(folder))


@pytest.fixture(scope="session")
def rows() -> tuple[Row, ...]:
    return make_rows(make_pairs(8), tiny_tokenizer(), thinking=False, max_length=512).rows
