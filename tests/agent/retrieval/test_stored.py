"""Indexes on disk: the same answers as in memory, without reading the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from folders import contents
from prefdelta.agent.retrieval import Bm25Index, open_retriever
from prefdelta.agent.retrieval.corpus import StoredCorpus, load_corpus
from prefdelta.agent.retrieval.factory import build_index
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document, write_rows
from prefdelta.recipe import Search

DOCUMENTS = [Document(f"d{n}", f"wörd{n % 7} text {n}\nsecond line", title=f"Title {n % 3}") for n in range(60)]
QUERIES = ["wörd3", "title 2 text", "second", "nothing known", "", "wörd1 wörd2 line"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_rows(tmp_path / "corpus.jsonl", DOCUMENTS)
    return tmp_path / "corpus.jsonl"


def test_a_stored_index_answers_as_the_one_in_memory(corpus: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "index", str(corpus))
    stored = open_retriever(Search(corpus=str(tmp_path / "index"), top_k=4, max_words=3))
    memory = Bm25Index(DOCUMENTS, top_k=4, max_words=3)
    assert stored.search_many(QUERIES) == memory.search_many(QUERIES)
    assert stored.search_many(["second"])[0][0].text == "wörd0 text 0"


def test_an_index_is_the_same_bytes_each_time(corpus: Path, tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        build_index(folder, str(corpus))
        return contents(folder)

    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_only_the_passages_asked_for_are_read(corpus: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "index", str(corpus))
    stored = StoredCorpus(tmp_path / "index")
    assert len(stored) == 60
    assert [stored[0], stored[-1], *stored[3:5]] == [DOCUMENTS[0], DOCUMENTS[-1], *DOCUMENTS[3:5]]
    with pytest.raises(IndexError):
        stored[60]


def test_a_damaged_index_is_told(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index(folder, str(corpus))
    search = Search(corpus=str(folder))
    whole = (folder / "documents.jsonl").read_bytes()
    (folder / "documents.jsonl").write_bytes(whole[:-5])
    with pytest.raises(PrefdeltaError, match="another size"):
        open_retriever(search)
    (folder / "documents.jsonl").write_bytes(whole)
    (folder / "bm25" / "data.csc.index.npy").write_bytes(b"x")
    with pytest.raises(PrefdeltaError, match="build it again"):
        open_retriever(search)
    for damaged in ("offsets.npy", "bm25/data.csc.index.npy", "bm25/params.index.json", "bm25/vocab.index.json"):
        build_index(folder, str(corpus))
        (folder / damaged).write_bytes(b"" if damaged.endswith("npy") else b"[1]")
        with pytest.raises(PrefdeltaError, match="build it again"):
            open_retriever(search)
    (folder / "index.json").write_text("[1]")
    with pytest.raises(PrefdeltaError, match="prefdelta index"):
        open_retriever(search)
    (folder / "index.json").unlink()
    with pytest.raises(PrefdeltaError, match="prefdelta index"):
        open_retriever(search)


def test_a_corpus_without_a_word_is_no_index(tmp_path: Path) -> None:
    write_rows(tmp_path / "corpus.jsonl", [Document("a", "...")])
    with pytest.raises(PrefdeltaError, match="nothing to index"):
        build_index(tmp_path / "index", str(tmp_path / "corpus.jsonl"))


def test_corpora_of_search_r1_are_read(tmp_path: Path) -> None:
    path = tmp_path / "wiki.jsonl"
    path.write_text(json.dumps({"id": "0", "contents": '"Evan Morris"\nEvan L. Morris was\na lobbyist.'}) + "\n")
    assert load_corpus(str(path)) == [Document("0", "Evan L. Morris was\na lobbyist.", "Evan Morris")]
    path.write_text(path.read_text() + '{"id": "1"}\n')
    with pytest.raises(PrefdeltaError, match="line 2"):
        load_corpus(str(path))
