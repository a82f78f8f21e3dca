"""What everything that can be searched has in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from prefdelta.core.records import Document

_NOT_SPACE = re.compile(r"\S+")


class Retriever(Protocol):
    """Finds passages. The same query finds the same passages in the same order, whatever was asked before."""

    def search_many(self, queries: Sequence[str]) -> list[list[Document]]:
        """The best passages for each query, best first."""
        ...


def cut_words(document: Document, max_words: int | None) -> Document:
    """The document with its text cut after so many words."""
    if max_words is None:
        return document
    ends = [match.end() for match in _NOT_SPACE.finditer(document.text)]
    return document if len(ends) <= max_words else replace(document, text=document.text[: ends[max_words - 1]])
