"""A corpus of passages: in memory, or a file of which only the passages that are found are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from prefdelta.core.compression import suffix_of
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.jsonl import read_json, read_objects
from prefdelta.core.records import Document, digest, row_from, to_json
from prefdelta.core.regular import regular

DOCUMENTS = "documents.jsonl"
OFFSETS = "offsets.npy"


def load_corpus(spec: str) -> list[Document]:
    """Load the passages to be searched: ``micro:corpus`` (embedded) or a file of documents.

    A line of a ``.jsonl`` file is ``{"id": ..., "text": ..., "title": ...}``. Lines as Search-R1 and FlashRAG have
    them, ``{"id": ..., "contents": "Title\\nText"}``, are read as well. Id and title may be left out. A ``.json`` file
    holds a list of such objects; both may be compressed.

    Raises:
        PrefdeltaError: the reference is of neither kind, or the file cannot be read or holds no document.
    """
    if spec == "micro:corpus":
        from prefdelta import micro  # here, because the embedded tasks are themselves built with Bm25Index

        return micro.corpus()
    path = expanded(spec)
    if suffix_of(path) not in (".jsonl", ".json"):
        raise PrefdeltaError(
            f"unknown corpus {spec!r}; give micro:corpus or the path of a .jsonl or .json file of documents."
        )
    documents = [_document(row, where) for where, row in _rows(path)]
    if not documents:
        raise PrefdeltaError(f"the corpus {spec} holds no document.")
    return documents


def from_contents(number: str, contents: str) -> Document:
    """A passage that is written as its title, a line break, and its text."""
    title, _, text = contents.partition("\n")
    return Document(id=number, text=text, title=title.strip().removeprefix('"').removesuffix('"'))


def write_corpus(folder: Path, documents: Iterable[Document]) -> None:
    """Write documents so that :class:`StoredCorpus` can read any of them by its place."""
    offsets = [0]
    with (folder / DOCUMENTS).open("wb") as handle:
        for document in documents:
            offsets.append(offsets[-1] + handle.write((to_json(document) + "\n").encode()))
    np.save(folder / OFFSETS, np.array(offsets, dtype=np.int64))


class StoredCorpus(Sequence[Document]):
    """The documents of :func:`write_corpus`, each read from disk when it is asked for."""

    def __init__(self, folder: Path) -> None:
        try:
            self._offsets = np.load(regular(folder / OFFSETS), mmap_mode="r")
            self._bytes = np.memmap(regular(folder / DOCUMENTS), dtype=np.uint8, mode="r")
        except (OSError, EOFError, ValueError) as error:
            raise PrefdeltaError(f"cannot read the index in {folder}: {error}; build it again.") from error
        if len(self._offsets) < 2 or int(self._offsets[-1]) != len(self._bytes):
            raise PrefdeltaError(f"the index in {folder} is damaged: {DOCUMENTS} has another size; build it again.")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, place: int) -> Document: ...

    @overload
    def __getitem__(self, place: slice) -> list[Document]: ...

    def __getitem__(self, place: int | slice) -> Document | list[Document]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        raw = self._bytes[int(self._offsets[number]) : int(self._offsets[number + 1])].tobytes()
        return Document(**json.loads(raw))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a corpus file, and where each is."""
    if suffix_of(path) == ".jsonl":
        yield from ((f"{path}, line {number}", row) for number, row in read_objects(path))
        return
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PrefdeltaError(f"{path} holds no list of documents.")
    yield from ((f"{path}, entry {place}", entry) for place, entry in enumerate(entries))


def _document(row: dict[str, Any], where: str) -> Document:
    """A passage in one of the forms; one without an id is called by a hash of what it says."""
    try:
        if "contents" in row:
            contents, number = row["contents"], row.get("id")
            if not isinstance(contents, str):
                raise TypeError(f"'contents' is {repr(contents)[:60]}, not a text")
            found = from_contents("" if number is None else str(number), contents)
        else:
            found = row_from({"id": "", **row}, Document)
    except (KeyError, TypeError) as error:
        raise PrefdeltaError(f"{where}: not a document with 'text' or 'contents' ({error}).") from error
    return found if found.id else replace(found, id=f"p{digest([found.title, found.text])[:12]}")
