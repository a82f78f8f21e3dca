"""Searching a corpus by dense vectors: a sentence encoder and a faiss index of inner products.

As in Search-R1 with E5 (Wang et al. 2022): ``query: `` and ``passage: `` before the texts, unit vectors, queries of at
most 256 tokens. ``flat`` compares with every passage and is exact; ``hnsw`` (Malkov and Yashunin 2018, M = 64) is
approximate, and for corpora where flat is too slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prefdelta.agent.retrieval.corpus import StoredCorpus, write_corpus
from prefdelta.agent.retrieval.retriever import cut_words
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document

Kind = Literal["flat", "hnsw"]
Vectors = NDArray[np.float32]

_INDEX = "vectors.faiss"
_QUERY = "query: "
_PASSAGE = "passage: "
_QUERY_TOKENS = 256
_PASSAGE_TOKENS = 512
_NEIGHBOURS = 64
_BREADTH = 128  # candidates that HNSW keeps while building and while searching


class Encoder:
    """A sentence encoder: texts in, unit vectors out.

    Args:
        name: a sentence-transformers model, by Hugging Face id or folder.
        batch_size: texts encoded at a time.

    Raises:
        PrefdeltaError: sentence-transformers is not installed, or the model cannot be read.
    """

    def __init__(self, name: str, batch_size: int = 64) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise PrefdeltaError("dense search needs sentence-transformers; pip install 'prefdelta[dense]'.") from error
        from prefdelta.core.models import loading  # here, as other retrievers need no torch

        with loading(f"the encoder {name!r}"):
            self._model = SentenceTransformer(name)
        self._room = self._model.max_seq_length or _PASSAGE_TOKENS
        self._batch_size = batch_size

    def queries(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimensions)."""
        return self._encode([_QUERY + text for text in texts], _QUERY_TOKENS)

    def passages(self, documents: Sequence[Document]) -> Vectors:
        """(documents, dimensions), from title and text."""
        return self._encode([f"{_PASSAGE}{document.title}\n{document.text}" for document in documents], _PASSAGE_TOKENS)

    def _encode(self, texts: list[str], tokens: int) -> Vectors:
        self._model.max_seq_length = min(tokens, self._room)
        vectors = self._model.encode(
            texts, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def build_dense(folder: Path, documents: Sequence[Document], encoder: Encoder, kind: Kind) -> None:
    """Encode a corpus and write its index into a folder."""
    faiss = _faiss()
    vectors = encoder.passages(documents)
    if kind == "flat":
        index = faiss.IndexFlatIP(vectors.shape[1])
    else:
        index = faiss.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BREADTH
    index.add(vectors)
    write_corpus(folder, documents)
    faiss.write_index(index, str(folder / _INDEX))


class DenseIndex:
    """An index that :func:`build_dense` wrote, memory-mapped.

    Args:
        folder: where it lies.
        encoder: the encoder that it was built with.
        top_k: how many passages a search returns.
        max_words: cut the text of a returned passage after so many words.
    """

    def __init__(self, folder: Path, encoder: Encoder, *, top_k: int, max_words: int | None = None) -> None:
        faiss = _faiss()
        try:
            self._index = faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise PrefdeltaError(f"cannot read the dense index in {folder}; build it again.") from error
        if hasattr(self._index, "hnsw"):
            self._index.hnsw.efSearch = max(_BREADTH, top_k)
        self.top_k = top_k
        self._documents = StoredCorpus(folder)
        self._encoder = encoder
        self._max_words = max_words

    def search_many(self, queries: Sequence[str]) -> list[list[Document]]:
        """The nearest passages for each query, nearest first. An empty query finds nothing."""
        asked = [query for query in dict.fromkeys(queries) if query.strip()]
        places: dict[str, list[int]] = {}
        if asked:
            _, found = self._index.search(self._encoder.queries(asked), min(self.top_k, len(self._documents)))
            places = {
                query: [int(place) for place in row if place >= 0] for query, row in zip(asked, found, strict=True)
            }
        return [
            [cut_words(self._documents[place], self._max_words) for place in places.get(query, ())] for query in queries
        ]


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise PrefdeltaError("dense search needs faiss; pip install 'prefdelta[dense]'.") from error
    return faiss
