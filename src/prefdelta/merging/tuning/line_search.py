"""A line search over log λ: a bracket of powers of two around a start, widened at its edges, then golden section."""

from __future__ import annotations

import math
from collections.abc import Callable

_BRACKET = (0.5, 1.0, 2.0, 4.0, 8.0)
_GOLDEN = (3 - math.sqrt(5)) / 2
_CLOSE = 1.1  # neighbours whose ratio is smaller are one λ


def maximise(score: Callable[[float], float], start: float, budget: int) -> float:
    """The best λ of at most ``budget`` that are scored; the smaller of equals.

    Scored are ½, 1, 2, 4 and 8 times ``start``. While the best is the smallest or the largest so far, the next power of
    two beyond it follows; then golden section between the neighbours of the best, until they are within 10 % of it.
    For a score that is unimodal in log λ, an optimum beyond the bracket is reached or the result is the edge of what
    was scored. λ has three significant digits.

    Args:
        score: larger is better; asked once for each λ.
        start: a λ above 0, by how much a merge is as long as its members, say.
        budget: at least 5.

    Source: Kiefer, "Sequential minimax search for a maximum", Proc. AMS 4 (1953).
    """
    scored = {scale: score(scale) for scale in (_rounded(start * factor) for factor in _BRACKET)}
    while len(scored) < budget:
        ordered = sorted(scored)
        place = ordered.index(_best(scored))
        if place == 0:
            probe = ordered[0] / 2
        elif place == len(ordered) - 1:
            probe = ordered[-1] * 2
        else:
            probe = _inside(ordered[place - 1], ordered[place], ordered[place + 1])
        probe = _rounded(probe)
        if probe in scored or any(1 < max(probe, near) / min(probe, near) < math.sqrt(_CLOSE) for near in ordered):
            break
        scored[probe] = score(probe)
    return _best(scored)


def _inside(low: float, middle: float, high: float) -> float:
    """In the wider of the two intervals, at the golden part of it from the middle, on a log axis."""
    down, up = math.log(middle / low), math.log(high / middle)
    return middle * math.exp(_GOLDEN * up if up >= down else -_GOLDEN * down)


def _best(scored: dict[float, float]) -> float:
    return max(sorted(scored), key=lambda scale: scored[scale])


def _rounded(scale: float) -> float:
    return float(f"{scale:.3g}")
