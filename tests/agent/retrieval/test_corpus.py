"""Corpus files as people have them: with and without ids, JSON Lines and JSON, in either of two forms."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from prefdelta.agent.retrieval.corpus import load_corpus
from prefdelta.agent.retrieval.factory import build_index, open_retriever
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document
from prefdelta.recipe import Search

ROWS: list[dict[str, Any]] = [
    {"id": "a", "title": "Mia", "text": "Mia was born\u2028in oslo."},
    {"text": "Leo was born in lima."},
    {"contents": '"Ann"\nAnn was born in rome.'},
    {"id": 7, "contents": "Bob\nBob was born in bonn."},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz"])
def test_passages_in_all_forms_are_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corpus{suffix}"
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    text = json.dumps(ROWS) if suffix == ".json" else f"\ufeff{lines}\r\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    documents = load_corpus(str(path))
    assert documents[0] == Document("a", "Mia was born\u2028in oslo.", "Mia")
    assert [document.title for document in documents] == ["Mia", "", "Ann", "Bob"]
    assert documents[3].id == "7"
    assert len({document.id for document in documents}) == 4
    assert all(document.id for document in documents)
    build_index(tmp_path / "index", str(path))
    found = open_retriever(Search(corpus=str(tmp_path / "index"), top_k=1)).search_many(["leo lima"])
    assert found == [[documents[1]]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"id": "a"}', "line 1: not a document"),
        ('{"text": "a"}\n[1]', "line 2: not a JSON object but a list"),
        ('{"text": 1}', "'text' is 1, not a text"),
        ('{"contents": null}', "'contents' is None, not a text"),
        ("", "holds no document"),
        ('{"text": "a"}\n{"text": NaN}', "line 2: not valid JSON"),
    ],
)
def test_a_bad_passage_is_named(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(content)
    with pytest.raises(PrefdeltaError, match=r"corpus\.jsonl") as caught:
        load_corpus(str(path))
    assert reason in str(caught.value)


def test_a_passage_whose_id_is_null_is_called_by_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": null, "contents": "Mia\\nin oslo"}\n{"contents": "Mia\\nin oslo"}\n')
    one, other = load_corpus(str(path))
    assert one == other
