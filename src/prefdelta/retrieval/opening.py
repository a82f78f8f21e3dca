"""From what a recipe names as its corpus to something that can be searched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Search
from prefdelta.records import Document
from prefdelta.retrieval.bm25 import Bm25Index
from prefdelta.retrieval.corpus import load_corpus
from prefdelta.retrieval.dense import DenseIndex, Encoder, Kind, build_dense
from prefdelta.retrieval.http import HttpRetriever
from prefdelta.retrieval.retriever import Retriever
from prefdelta.store import write_json

ABOUT = "index.json"


def open_retriever(search: Search) -> Retriever:
    """What a recipe's ``search`` means: a server, a folder of a built index, or a corpus to be indexed in memory.

    Raises:
        PrefdeltaError: the corpus or index cannot be read, or needs a library that is not installed.
    """
    corpus, top_k, max_words = search.corpus, search.top_k, search.max_words
    if corpus.startswith(("http://", "https://")):
        cache = Path(search.cache).expanduser() if search.cache else None
        return HttpRetriever(corpus, top_k=top_k, max_words=max_words, cache=cache)
    folder = Path(corpus).expanduser()
    if not folder.is_dir():
        return Bm25Index(load_corpus(corpus), top_k=top_k, max_words=max_words)
    about = _about(folder)
    if about["kind"] == "bm25":
        return Bm25Index.open(folder, top_k=top_k, max_words=max_words)
    return DenseIndex(folder, Encoder(about["encoder"]), top_k=top_k, max_words=max_words)


def build_index(folder: Path, corpus: str, *, encoder: str | None = None, kind: Kind = "flat") -> None:
    """Index a corpus into a folder: by BM25, or with an ``encoder`` by dense vectors.

    Raises:
        PrefdeltaError: the corpus cannot be read, or dense search needs a library that is not installed.
    """
    documents: list[Document] = load_corpus(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    if encoder is None:
        Bm25Index(documents, top_k=1).save(folder)
        about: dict[str, Any] = {"kind": "bm25"}
    else:
        build_dense(folder, documents, Encoder(encoder), kind)
        about = {"kind": kind, "encoder": encoder}
    write_json(folder / ABOUT, {**about, "documents": len(documents)})


def _about(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise PrefdeltaError(
            f"{folder} holds no search index; make one with `prefdelta index CORPUS.jsonl -o {folder}`."
        ) from error
