"""Searching a corpus of passages by BM25.

The scores are those of ``bm25s`` (Lucene's variant, k1 = 1.5, b = 0.75; Robertson and Zaragoza 2009, Kamphuis et al.
2020). Choosing the best passages is done here, because the library's own choice among equal scores depends on its
selection algorithm; here the passage that comes first in the corpus wins, so that a run can be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from prefdelta.agent.retrieval.corpus import StoredCorpus, write_corpus
from prefdelta.agent.retrieval.retriever import cut_words
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document

if TYPE_CHECKING:  # a third of a second of imports that only a search needs
    import bm25s

_WORD = re.compile(r"\w+")
_FOLDER = "bm25"
_KEPT = 10_000  # queries whose passages are kept in memory


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
        import bm25s

        texts = [words(f"{document.title} {document.text}") for document in documents]
        # Numbered by first occurrence: bm25s would number them by the order of a set, which changes with the hash seed.
        vocabulary = {word: number for number, word in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
        index = bm25s.BM25(backend="numpy")
        if vocabulary:
            ids = [[vocabulary[word] for word in text] for text in texts]
            index.index((ids, dict(vocabulary)), show_progress=False)
        self._set(documents, vocabulary, index, top_k, max_words)

    @classmethod
    def open(cls, folder: Path, *, top_k: int, max_words: int | None = None) -> Self:
        """An index that :meth:`save` wrote. Its arrays and passages are memory-mapped: opening reads the words only.

        Raises:
            PrefdeltaError: the folder holds no such index, or a damaged one.
        """
        import bm25s

        try:
            index = bm25s.BM25.load(folder / _FOLDER, mmap=True, show_progress=False)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PrefdeltaError(f"cannot read the BM25 index in {folder}: {error}; build it again.") from error
        self = cls.__new__(cls)
        self._set(StoredCorpus(folder), index.vocab_dict, index, top_k, max_words)
        return self

    def _set(
        self,
        documents: Sequence[Document],
        vocabulary: Mapping[str, int],
        index: bm25s.BM25,
        top_k: int,
        max_words: int | None,
    ) -> None:
        self.top_k = top_k
        self._documents = documents
        self._vocabulary = vocabulary
        self._index = index
        self._max_words = max_words
        self._best = lru_cache(_KEPT)(self._best_of)

    def save(self, folder: Path) -> None:
        """Write index and passages into a folder.

        Raises:
            PrefdeltaError: no passage has a word, so that there is nothing to search.
        """
        if not self._vocabulary:
            raise PrefdeltaError("no passage of the corpus has a word to search for; there is nothing to index.")
        folder.mkdir(parents=True, exist_ok=True)
        write_corpus(folder, self._documents)
        self._index.save(folder / _FOLDER, show_progress=False)

    def search(self, query: str) -> list[Document]:
        """The best passages, best first: at most ``top_k``, and only such as share a word with the query.

        A query that is empty, or has no word of the corpus, finds nothing.
        """
        return list(self._best(tuple(self._vocabulary[word] for word in words(query) if word in self._vocabulary)))

    def search_many(self, queries: Sequence[str]) -> list[list[Document]]:
        """:meth:`search` for each query, in order."""
        return [self.search(query) for query in queries]

    def _best_of(self, query: tuple[int, ...]) -> list[Document]:
        if not query:
            return []
        scores = self._index.get_scores_from_ids(list(query))
        return [cut_words(self._documents[index], self._max_words) for index in best_indices(scores, self.top_k)]


def best_indices(scores: NDArray[np.floating], count: int) -> list[int]:
    """The indices of the ``count`` largest positive scores, largest first, the lower index first among equals."""
    matching = np.flatnonzero(scores > 0)
    if len(matching) > count:
        least = np.partition(scores[matching], -count)[-count]
        matching = matching[scores[matching] >= least]
    order = np.lexsort((matching, -scores[matching]))
    return [int(index) for index in matching[order][:count]]
