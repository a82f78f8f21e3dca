"""Win rates from games in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prefdelta.evaluation.judges.games import Game, Played
from prefdelta.evaluation.statistics import Array, minimum_detectable_effect, p_value, paired_difference

_EVEN = 50.0


def preferences(played: Played) -> dict[str, float]:
    """How far the judge prefers the model on each item, in [0, 1]: the mean over both orders."""
    return {item: _mean([game.preference for game in games]) for item, games in played.pairs().items()}


def win_rate(values: Sequence[float]) -> dict[str, Any]:
    """The mean preference over items in percent, with its 95 % interval and the p-value of "both are even".

    The interval is cut to what a rate can be, 0 to 100. With fewer than two items there is none.
    """
    shares = np.asarray(values, dtype=np.float64)
    result: dict[str, Any] = {
        "items": shares.size,
        "wins": int((shares > 0.5).sum()),
        "losses": int((shares < 0.5).sum()),
        "ties": int((shares == 0.5).sum()),
    }
    if shares.size < 2:
        return result
    differences: list[Array] = [100 * shares[None] - _EVEN]
    estimate = paired_difference(differences, unit=_EVEN)
    return {
        **result,
        "win_rate": _EVEN + estimate.mean,
        "low": max(0.0, _EVEN + estimate.low),
        "high": min(100.0, _EVEN + estimate.high),
        "p": p_value(differences, unit=_EVEN),
        "detectable": minimum_detectable_effect(estimate),
    }


def position(played: Played) -> dict[str, float]:
    """What the order did: how far the answer shown first was preferred (50: not at all), and how often it decided.

    ``turned`` is the percentage of matches in which each order had a winner, but not the same one.
    """
    pairs = list(played.pairs().values())
    if not pairs:
        return {}
    first = [_shown_first(game) for games in pairs for game in games]
    turned = [(_shown_first(one) - 0.5) * (_shown_first(two) - 0.5) > 0 for one, two in pairs]
    return {"prefers_first": 100 * float(np.mean(first)), "turned": 100 * float(np.mean(turned))}


def by_category(played: Played, values: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Win rates by category, where there is more than one."""
    found: dict[str, list[float]] = {}
    for item, value in values.items():
        found.setdefault(played.matches[item].category, []).append(value)
    return {name: win_rate(shares) for name, shares in sorted(found.items())} if len(found) > 1 else {}


def _shown_first(game: Game) -> float:
    assert game.preference is not None
    return game.preference if game.model_first else 1 - game.preference


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))
