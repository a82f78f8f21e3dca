"""What every sampling backend is asked for, and how: the one contract between them and the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prefdelta.core.records import Item, Sample, digest

GROUP_BATCHES = 4
"""So many batches in a row of a model in memory are a group: a turn's batches are cut anew within it, by length."""


@dataclass(frozen=True)
class Request:
    """One answer wanted. ``seed`` (0 or more) decides all of its random numbers, whatever else is in the batch.

    ``index`` tells the answers to one item apart.
    """

    item: Item
    seed: int
    index: int = 0


class Sampler(Protocol):
    """A sampling backend: a stream of requests becomes a stream of samples."""

    @property
    def together(self) -> int:
        """How many requests in a row share batches, and are sampled without a look at any others; 1 if none do."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Everything but the requests that the answers depend on, as plain values; it goes into a request's hash."""
        ...

    def stream(self, requests: Sequence[Request], done: Container[int] = ()) -> Iterator[list[tuple[int, Sample]]]:
        """Answer the requests whose places are not in ``done``; yield (place, answer) s as soon as they are there.

        The answers come in any order. A backend that batches gets all requests, finished ones too, so that it can
        cut the same batches in a resumed run; it may then yield an answer that is done already.

        Raises:
            PrefdeltaError: a request cannot be answered. What was yielded before stays good.
        """
        ...


def requests_for(items: Sequence[Item], seed: int, n: int = 1) -> list[Request]:
    """``n`` requests per item, in the order of the items, each with a seed of its own.

    A seed depends on ``seed``, the item's id and the answer's index only: a larger ``n`` keeps the earlier answers.
    """
    return [Request(item, _seed(seed, item, index), index) for item in items for index in range(n)]


def request_hash(request: Request, described: Mapping[str, Any]) -> str:
    """A name for a request to a backend that describes itself so: equal requests may share an answer."""
    return digest({"backend": described, "item": request.item, "seed": request.seed, "index": request.index})


def _seed(seed: int, item: Item, index: int) -> int:
    text = f"{seed}\n{item.id}" if index == 0 else f"{seed}\n{item.id}\n{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
