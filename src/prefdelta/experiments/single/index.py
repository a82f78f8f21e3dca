"""The unit that makes a search index of a corpus."""

from __future__ import annotations

from typing import Literal

from prefdelta.agent.retrieval.factory import build_index
from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.identity import file_externals
from prefdelta.experiments.single.unit import single_unit
from prefdelta.experiments.unit import Unit


def index_unit(corpus: str, encoder: str | None, ann: Literal["flat", "hnsw"]) -> Unit:
    """A corpus becomes a search index.

    Raises:
        PrefdeltaError: the corpus is a URL.
    """
    if "://" in corpus:
        raise PrefdeltaError("a search server keeps its own index; give a file of passages.")
    return single_unit(
        "index",
        config={"corpus": corpus, "encoder": encoder, "ann": ann if encoder else None},
        files={},
        externals={**file_externals(corpus, "corpus"), **file_externals(encoder or "", "encoder")},
        reads=[corpus, *([encoder] if encoder else [])],
        build=lambda work, context: build_index(work, corpus, encoder=encoder, kind=ann),
    )
