"""Searching a corpus of passages by BM25.

The scores are those of ``bm25s`` (Lucene's variant, k1 = 1.5, b = 0.75; Robertson and Zaragoza 2009, Kamphuis et al.
2020). Choosing the best passages is done here, because the library's own choice among equal scores depends on its
selection algorithm; here the passage that comes first in the corpus wins, so that a run can be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import bm25s
import numpy as np
from numpy.typing import NDArray

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Document, read_rows

_WORD = re.compile(r"\w+")
_NOT_SPACE = re.compile(r"\S+")


def load_corpus(spec: str) -> list[Document]:
    """Load the passages to be searched: ``micro:corpus`` (embedded) or a ``.jsonl`` file of documents.

    A line of the file is ``{"id": ..., "text": ..., "title": ...}``; the title may be left out.

    Raises:
        PrefdeltaError: the reference is of neither kind, or the file cannot be read or holds no document.
    """
    if spec == "micro:corpus":
        from prefdelta import micro  # here, because the embedded tasks are themselves built with Bm25Index

        return micro.corpus()
    if not spec.endswith(".jsonl"):
        raise PrefdeltaError(f"unknown corpus {spec!r}; give micro:corpus or the path of a .jsonl file of documents.")
    documents = read_rows(Path(spec).expanduser(), Document)
    if not documents:
        raise PrefdeltaError(f"the corpus {spec} holds no document.")
    return documents


def words(text: str) -> list[str]:
    """The words that are indexed and searched: runs of letters, digits and underscores, in lower case."""
    return _WORD.findall(text.lower())


class Bm25Index:
    """A BM25 index over title and text of passages.

    Args:
        documents: the corpus; its order breaks ties.
        top_k: the most passages a search returns.
        max_words: cut the text of a returned passage after so many words; the whole text is searched all the same.
    """

    def __init__(self, documents: Sequence[Document], *, top_k: int, max_words: int | None = None) -> None:
        self.top_k = top_k
        self._documents = [_shortened(document, max_words) for document in documents]
        texts = [words(f"{document.title} {document.text}") for document in documents]
        # Numbered by first occurrence: bm25s would number them by the order of a set, which changes with the hash seed.
        self._vocabulary = {word: number for number, word in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
        self._index = bm25s.BM25(backend="numpy")
        if self._vocabulary:
            ids = [[self._vocabulary[word] for word in text] for text in texts]
            self._index.index((ids, dict(self._vocabulary)), show_progress=False)
        self._found: dict[tuple[int, ...], list[Document]] = {}

    def search(self, query: str) -> list[Document]:
        """The best passages, best first: at most ``top_k``, and only such as share a word with the query.

        A query that is empty, or has no word of the corpus, finds nothing.
        """
        known = tuple(self._vocabulary[word] for word in words(query) if word in self._vocabulary)
        if known not in self._found:
            self._found[known] = self._best(known)
        return list(self._found[known])

    def search_many(self, queries: Sequence[str]) -> list[list[Document]]:
        """:meth:`search` for each query, in order."""
        return [self.search(query) for query in queries]

    def _best(self, query: tuple[int, ...]) -> list[Document]:
        if not query:
            return []
        scores = self._index.get_scores_from_ids(list(query))
        return [self._documents[index] for index in best_indices(scores, self.top_k)]


def best_indices(scores: NDArray[np.floating], count: int) -> list[int]:
    """The indices of the ``count`` largest positive scores, largest first, the lower index first among equals."""
    matching = np.flatnonzero(scores > 0)
    if len(matching) > count:
        least = np.partition(scores[matching], -count)[-count]
        matching = matching[scores[matching] >= least]
    order = np.lexsort((matching, -scores[matching]))
    return [int(index) for index in matching[order][:count]]


def _shortened(document: Document, max_words: int | None) -> Document:
    if max_words is None:
        return document
    ends = [match.end() for match in _NOT_SPACE.finditer(document.text)]
    return document if len(ends) <= max_words else replace(document, text=document.text[: ends[max_words - 1]])
