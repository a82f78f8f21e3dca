"""What the tests of the embedded family share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from micro_family import tokenizer
from prefdelta import micro
from prefdelta.agent.retrieval import Bm25Index


@pytest.fixture(scope="session")
def search() -> Callable[[str], str]:
    index = Bm25Index(micro.corpus(), top_k=1)
    return lambda query: index.search(query)[0].text


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    return tokenizer.build()
