"""Searching a corpus of passages: by BM25, by dense vectors, or through a search server."""

from prefdelta.agent.retrieval.bm25 import Bm25Index
from prefdelta.agent.retrieval.corpus import load_corpus
from prefdelta.agent.retrieval.factory import open_retriever
from prefdelta.agent.retrieval.retriever import Retriever

__all__ = ["Bm25Index", "Retriever", "load_corpus", "open_retriever"]
