"""BM25 search: against the formula itself, and in the corners where libraries differ."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdelta.agent.retrieval.bm25 import Bm25Index, best_indices, words
from prefdelta.agent.retrieval.corpus import load_corpus
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document, write_rows


def _documents(*texts: str) -> list[Document]:
    return [Document(id=f"d{number}", text=text) for number, text in enumerate(texts)]


def _ids(found: list[Document]) -> list[str]:
    return [document.id for document in found]


def _formula(texts: list[str], query: str) -> list[float]:
    """BM25 in Lucene's variant, written down from Kamphuis et al. 2020, table 1."""
    bags = [words(text) for text in texts]
    mean = sum(map(len, bags)) / len(bags)
    scores = []
    for bag in bags:
        total = 0.0
        for word in words(query):
            count = bag.count(word)
            having = sum(word in other for other in bags)
            idf = math.log(1 + (len(bags) - having + 0.5) / (having + 0.5))
            total += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(bag) / mean))
        scores.append(total)
    return scores


WORD = st.sampled_from(["mia", "stone", "was", "born", "in", "oslo", "lima"])
TEXT = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8), TEXT, st.integers(1, 9))
def test_order_is_that_of_the_bm25_formula(texts: list[str], query: str, top_k: int) -> None:
    found = Bm25Index(_documents(*texts), top_k=top_k).search(query)
    scores = _formula(texts, query)
    expected = sorted((index for index, score in enumerate(scores) if score > 0), key=lambda index: -scores[index])
    got = [int(document.id[1:]) for document in found]
    assert len(got) == len(set(got)) == min(top_k, len(expected))
    assert np.allclose([scores[index] for index in got], [scores[index] for index in expected[:top_k]], atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(-2, 3), max_size=40), st.integers(1, 45))
def test_best_indices_is_a_stable_sort(values: list[int], count: int) -> None:
    scores = np.array(values, dtype=np.float32)
    expected = sorted((index for index, value in enumerate(values) if value > 0), key=lambda index: -values[index])
    assert best_indices(scores, count) == expected[:count]


def test_equal_passages_come_in_corpus_order() -> None:
    index = Bm25Index(_documents(*["red apple"] * 50, "red"), top_k=5)
    assert _ids(index.search("apple")) == ["d0", "d1", "d2", "d3", "d4"]


def test_queries_without_a_known_word_find_nothing() -> None:
    index = Bm25Index(_documents("a cat", "a dog"), top_k=3)
    assert index.search("") == index.search("?! ") == index.search("zebra") == []
    assert _ids(index.search("zebra dog")) == ["d1"]


def test_an_empty_corpus_finds_nothing() -> None:
    assert Bm25Index([], top_k=2).search("cat") == []
    assert Bm25Index(_documents("...", ""), top_k=2).search("cat") == []


def test_letter_case_and_punctuation_do_not_matter_and_titles_are_searched() -> None:
    index = Bm25Index([Document("x", "He was born in Oslo.", title="Mia Stone"), Document("y", "Lima")], top_k=1)
    assert _ids(index.search("MIA, stone?")) == ["x"]


def test_search_many_equals_search() -> None:
    index = Bm25Index(_documents("a b", "b c", "c d", "d a"), top_k=2)
    queries = ["a", "b c", "", "d d a", "a"]
    assert index.search_many(queries) == [index.search(query) for query in queries]


def test_a_caller_cannot_change_later_answers() -> None:
    index = Bm25Index(_documents("a cat"), top_k=1)
    index.search("cat").clear()
    assert _ids(index.search("cat")) == ["d0"]


def test_long_passages_are_cut_but_searched_whole() -> None:
    documents = _documents("one  two\nthree four", "one")
    index = Bm25Index(documents, top_k=1, max_words=3)
    assert index.search("four")[0].text == "one  two\nthree"
    assert Bm25Index(documents, top_k=1, max_words=4).search("four") == [documents[0]]


def test_load_corpus_reads_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "1", "text": "t"}\n{"id": "2", "text": "u", "title": "v"}\n', encoding="utf-8")
    assert load_corpus(str(path)) == [Document("1", "t"), Document("2", "u", "v")]


def test_load_corpus_explains_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="micro:corpus"):
        load_corpus("wikipedia")
    with pytest.raises(PrefdeltaError, match=r"nowhere\.jsonl"):
        load_corpus(str(tmp_path / "nowhere.jsonl"))
    write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(PrefdeltaError, match="no document"):
        load_corpus(str(tmp_path / "empty.jsonl"))
