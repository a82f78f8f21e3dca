"""What a training leaves beside an adapter for later merges: ``training.json``, and the adapter's own scale in it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from prefdelta.core.regular import regular

TRAINING = "training.json"


@dataclass(frozen=True)
class OwnScale:
    """How far a delta would have to be scaled to prefer held-out pairs as surely as it is right about them.

    Attributes:
        scale: c, the minimum of the mean of log(1 + exp(−c mⱼ)) over pairs j; see
            :func:`prefdelta.training.own_scale.fitted_scale`. Above 1 the training stopped early.
        margin: the mean of m, the adapter's log-ratio margins at λ = 1, in nats.
        pairs: how many pairs were looked at; none was trained on.
    """

    scale: float
    margin: float
    pairs: int


def read_own_scale(folder: Path) -> OwnScale | None:
    """What the training wrote; ``None`` if prefdelta did not train the adapter, or had no held-out pairs."""
    try:
        found = json.loads(regular(folder / TRAINING).read_text(encoding="utf-8"))["own_scale"]
        own = OwnScale(float(found["scale"]), float(found["margin"]), int(found["pairs"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None  # somebody else's file of that name, or one from before there was such a number
    return own if math.isfinite(own.scale) and own.scale >= 0 else None
