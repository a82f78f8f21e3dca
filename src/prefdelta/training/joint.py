"""Training-based aggregation: the baselines that merging is compared with.

*Joint* training is one run on the union of the pair sets. *Sequential* training goes through the sets one after the
other, each time continuing with the adapter that the last one left: ``train_delta(..., adapter=...)``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from prefdelta.records import Pair


def joint_pairs(pair_sets: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    """The union of several pair sets, in their order; ids get the set's name in front, since sets share prompts."""
    return [dataclasses.replace(pair, id=f"{name}/{pair.id}") for name, pairs in pair_sets.items() for pair in pairs]
