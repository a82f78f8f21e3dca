"""The plain average of updates: what every other merge is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.merging.registry import Options, implements


def shares(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum.

    Raises:
        PrefdeltaError: a weight is not finite, or the sum is not positive.
    """
    total = sum(weights)
    if not 0 < total < float("inf"):
        raise PrefdeltaError(f"merge weights must be finite and have a positive sum, not {list(weights)}.")
    return [weight / total for weight in weights]


@implements("average")
def average(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> LowRank:
    """ΔW_AVG = Σᵢ wᵢ ΔWᵢ / Σᵢ wᵢ.

    The mean is of the products BᵢAᵢ, not of the factors, so it does not depend on how an update is factored. An
    adapter that lacks the module counts as the zero update that it is. Weights may be negative if their sum is not.

    On dense matrices::

        def average(deltas, weights):
            return sum(w * delta for w, delta in zip(weights, deltas)) / sum(weights)

    Cost: O((d_out + d_in) Σrᵢ). Result: rank Σ rᵢ, exact.

    Source: arXiv 2606.00357, PDA-Averaging.
    """
    return Stack.of(deltas).weighted(shares(weights))
