"""A corpus of passages: in memory, or a file of which only the passages that are found are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Document, read_rows, to_json

DOCUMENTS = "documents.jsonl"
OFFSETS = "offsets.npy"


def load_corpus(spec: str) -> list[Document]:
    """Load the passages to be searched: ``micro:corpus`` (embedded) or a ``.jsonl`` file of documents.

    A line of the file is ``{"id": ..., "text": ..., "title": ...}``; the title may be left out. Lines as Search-R1
    and FlashRAG have them, ``{"id": ..., "contents": "Title\\nText"}``, are read as well.

    Raises:
        PrefdeltaError: the reference is of neither kind, or the file cannot be read or holds no document.
    """
    if spec == "micro:corpus":
        from prefdelta import micro  # here, because the embedded tasks are themselves built with Bm25Index

        return micro.corpus()
    if not spec.endswith(".jsonl"):
        raise PrefdeltaError(f"unknown corpus {spec!r}; give micro:corpus or the path of a .jsonl file of documents.")
    path = Path(spec).expanduser()
    documents = _contents(path) if _is_contents(path) else read_rows(path, Document)
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
            self._offsets = np.load(folder / OFFSETS, mmap_mode="r")
            self._bytes = np.memmap(folder / DOCUMENTS, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
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


def _is_contents(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as handle:
            first = json.loads(next((line for line in handle if line.strip()), "{}"))
    except (OSError, ValueError):
        return False  # the reader of plain documents says what is wrong
    return isinstance(first, dict) and "contents" in first


def _contents(path: Path) -> list[Document]:
    documents = []
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                documents.append(from_contents(str(row["id"]), str(row["contents"])))
            except (ValueError, KeyError, TypeError) as error:
                raise PrefdeltaError(
                    f"{path}, line {number}: not a document with 'id' and 'contents' ({error!r})."
                ) from error
    return documents
