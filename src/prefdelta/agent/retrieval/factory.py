"""Retrievers by name: from what a recipe names as its corpus to something that can be searched.

Another package adds a retriever by an entry point of the group ``prefdelta.retrievers``; see ``docs/extending.md``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefdelta.agent.retrieval.bm25 import Bm25Index
from prefdelta.agent.retrieval.corpus import load_corpus
from prefdelta.agent.retrieval.dense import DenseIndex, Encoder, Kind, build_dense
from prefdelta.agent.retrieval.http import HttpRetriever
from prefdelta.agent.retrieval.retriever import Retriever
from prefdelta.core.config import Config
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded, write_json
from prefdelta.core.records import Document
from prefdelta.core.registry import NoOptions, Registry, find_configured
from prefdelta.core.regular import regular
from prefdelta.recipe import Search

ABOUT = "index.json"


@dataclass(frozen=True)
class RegisteredRetriever:
    """A way to search a corpus.

    Attributes:
        name: what recipes call it.
        open: ``(search, options) -> Retriever``; the retriever returns at most ``search.top_k`` passages, each of at
            most ``search.max_words`` words.
        options: the model of its options.
    """

    name: str
    open: Callable[[Search, Any], Retriever]
    options: type[Config]


RETRIEVERS: Registry[RegisteredRetriever] = Registry("retriever", "prefdelta.retrievers")

Open = TypeVar("Open", bound=Callable[[Search, Any], Retriever])


def retriever(name: str, options: type[Config] = NoOptions) -> Callable[[Open], Open]:
    """Register the decorated function, ``(search, options) -> Retriever``; see :class:`RegisteredRetriever`."""
    return RETRIEVERS.adding(name, lambda function: RegisteredRetriever(name, function, options))


def open_retriever(search: Search) -> Retriever:
    """The retriever that a recipe's ``search`` names.

    Where it names none: ``server`` for a URL, ``index`` for a folder, ``bm25`` for anything else.

    Raises:
        PrefdeltaError: the retriever or one of its options is unknown, the corpus or index cannot be read, or it needs
            a library that is not installed.
    """
    found, options = find_configured(RETRIEVERS, search.retriever or _usual(search.corpus))
    return found.open(search, options)


def _usual(corpus: str) -> str:
    if corpus.startswith(("http://", "https://")):
        return "server"
    return "index" if expanded(corpus).is_dir() else "bm25"


@retriever("bm25")
def _bm25(search: Search, options: NoOptions) -> Retriever:
    """A corpus that is indexed in memory."""
    return Bm25Index(load_corpus(search.corpus), top_k=search.top_k, max_words=search.max_words)


@retriever("server")
def _server(search: Search, options: NoOptions) -> Retriever:
    """A server that speaks Search-R1's protocol."""
    cache = expanded(search.cache) if search.cache else None
    return HttpRetriever(search.corpus, top_k=search.top_k, max_words=search.max_words, cache=cache)


@retriever("index")
def _index(search: Search, options: NoOptions) -> Retriever:
    """A folder that ``prefdelta index`` made."""
    folder = expanded(search.corpus)
    about = _about(folder)
    if about["kind"] == "bm25":
        return Bm25Index.open(folder, top_k=search.top_k, max_words=search.max_words)
    return DenseIndex(folder, Encoder(about["encoder"]), top_k=search.top_k, max_words=search.max_words)


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
        about = json.loads(regular(folder / ABOUT).read_text(encoding="utf-8"))
        return {"kind": about["kind"], "encoder": None if about["kind"] == "bm25" else about["encoder"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PrefdeltaError(
            f"{folder} holds no search index; make one with `prefdelta index CORPUS.jsonl -o {folder}`."
        ) from error
