"""What an evaluation has to do, in fixed shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from prefdelta.recipe import Sampling
from prefdelta.records import Item
from prefdelta.search import Environment

_SHARD_BATCHES = 8


@dataclass(frozen=True)
class Job:
    """One answer wanted: an item of benchmark ``task``, how it is drawn, and what may be searched."""

    task: str
    item: Item
    sampling: Sampling
    search: Environment | None


def shards_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in their order, cut into shards whose jobs are all drawn alike.

    Shards do not depend on what was done before, because the numbers of a batch may differ in the last bit with the
    batch's composition.
    """
    shards = []
    for _, alike in groupby(jobs, key=lambda job: (job.sampling, job.search is None)):
        rows = list(alike)
        size = _SHARD_BATCHES * rows[0].sampling.batch_size
        shards += [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    return shards
