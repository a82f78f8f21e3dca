"""What a merge takes as a rank: a mistake is one sentence."""

from __future__ import annotations

import pytest

from prefdelta.cli.merge_words import parse_rank
from prefdelta.core.errors import PrefdeltaError


def test_a_rank_is_a_number_or_one_of_two_words() -> None:
    assert [parse_rank(word) for word in ("exact", "servable", "8")] == [None, "servable", 8]


@pytest.mark.parametrize("word", ["\N{SUPERSCRIPT TWO}", "-1", "1.5", "most"])
def test_what_is_no_rank_is_refused(word: str) -> None:
    with pytest.raises(PrefdeltaError, match=f"--rank '{word}' is neither a number nor exact nor servable"):
        parse_rank(word)
