"""The report of baking, in numbers."""

from __future__ import annotations

from collections.abc import Mapping

from prefdelta.core.config import Frozen
from prefdelta.merging.baking.rounding import RoundingLoss
from prefdelta.merging.report import MergeReport


class BakedAdapter(Frozen):
    """One adapter that went into the model: its folder's name, and the fingerprint of what it held."""

    name: str
    fingerprint: str


class BakedModule(Frozen):
    """One adapted module: the tensor it went into, the sizes of W and ΔW, and the loss by type.

    ``losses`` has the type the tensor is ``stored`` in, and float32 and bfloat16 for comparison.
    """

    module: str
    tensor: str
    shape: tuple[int, ...]
    stored: str
    weight_norm: float
    update_norm: float
    losses: Mapping[str, RoundingLoss]


class ApplyReport(Frozen):
    """The whole model; ``model_dump_json`` gives what is stored as ``prefdelta_apply.json``.

    ``merge`` tells how several ``adapters`` became one update; ``None`` for a single one as it is. ``loss`` is over
    all modules as stored, ``losses`` what it would be in each type. ``untied`` says that the output head was given a
    weight of its own because only one side of a shared one was changed.
    """

    version: str
    base: str
    adapters: tuple[BakedAdapter, ...]
    scale: float | str
    merge: MergeReport | None
    shards: tuple[str, ...]
    tensors: int
    bytes: int
    untied: bool
    update_norm: float
    weight_norm: float
    loss: RoundingLoss
    losses: Mapping[str, RoundingLoss]
    warnings: tuple[str, ...]
    modules: tuple[BakedModule, ...]
