"""Searching a corpus of passages: by BM25, by dense vectors, or through a search server."""

from prefdelta.retrieval.bm25 import Bm25Index
from prefdelta.retrieval.corpus import load_corpus
from prefdelta.retrieval.opening import open_retriever
from prefdelta.retrieval.retriever import Retriever

__all__ = ["Bm25Index", "Retriever", "load_corpus", "open_retriever"]
