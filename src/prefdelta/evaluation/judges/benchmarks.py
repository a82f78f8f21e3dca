"""The judged comparisons of two models: AlpacaEval 2, Arena-Hard, and any two models of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefdelta.evaluation.judges.games import PairRule, Played
from prefdelta.evaluation.judges.lengthcontrol import GamedRows, LengthControlled, length_controlled
from prefdelta.evaluation.judges.pairwise import by_category, position, preferences, win_rate
from prefdelta.evaluation.judges.prompts import LABELLED_PAIR, LETTER_PAIR, Template
from prefdelta.evaluation.judges.style import FEATURES, Battles, style_controlled, style_difference
from prefdelta.evaluation.judges.verdicts import chosen_letter, decided, labelled, sided
from prefdelta.evaluation.statistics import Array

_LIKELIEST = 5
_LONG_JUDGEMENT = 4096


def alpaca_rule(template: Template | None = None) -> PairRule:
    """One token, read by its probability, as ``weighted_alpaca_eval_gpt4_turbo`` does; but always in both orders."""
    return PairRule(template or LETTER_PAIR, 1, chosen_letter, temperature=1.0, likeliest=_LIKELIEST)


def labelled_rule(template: Template | None = None) -> PairRule:
    """A judgement in words that ends in a verdict, greedy.

    The verdict is read in the form that the template asks for: FastChat's ``[[A]]``, ``[[B]]``, ``[[C]]``, Auto-J's
    "final decision is Response 1", or else our labels, which are Arena-Hard's.
    """
    template = template or LABELLED_PAIR
    asked = template.system + template.user
    if "[[A]]" in asked and "[[B]]" in asked:
        return PairRule(template, _LONG_JUDGEMENT, sided)
    if "final decision is " in asked.lower() and "[[" not in asked:
        return PairRule(template, _LONG_JUDGEMENT, decided)
    return PairRule(template, _LONG_JUDGEMENT, labelled)


def alpaca_scores(played: Played, gamed: GamedRows | None = None, difficulties: Array | None = None) -> dict[str, Any]:
    """AlpacaEval 2's numbers: raw and length-controlled win rate in percent.

    Args:
        played: what the judge said.
        gamed: AlpacaEval's rows of gamed baselines; only for its own judge and baseline.
        difficulties: AlpacaEval's difficulty of each question, in the order of the matches.
    """
    values = preferences(played)
    chosen = None
    if difficulties is not None:
        known = dict(zip(played.matches, difficulties.tolist(), strict=True))
        chosen = [known[item] for item in values]
    return {
        **win_rate(list(values.values())),
        "length_controlled": _length_control(played, values, gamed, chosen),
        "length": _lengths(played),
        "position": position(played),
    }


def pairwise_scores(played: Played) -> dict[str, Any]:
    """The win rate of a model over another, raw and length-controlled."""
    values = preferences(played)
    return {
        **win_rate(list(values.values())),
        "length_controlled": _length_control(played, values, None, None),
        "length": _lengths(played),
        "position": position(played),
        "categories": by_category(played, values),
    }


def arena_scores(played: Played) -> dict[str, Any]:
    """Arena-Hard's numbers: the win rate in which a clear verdict counts three times, plain and style-controlled.

    Questions without both verdicts are left out. The intervals are 95 % bootstrap intervals over questions; the
    reference's are 90 % intervals over single verdicts.
    """
    battles = arena_battles(played)
    values = preferences(played)
    result: dict[str, Any] = {**win_rate(list(values.values()))}
    if len(values) >= 2:
        for name, features in (("weighted", ()), ("style_controlled", FEATURES)):
            found = style_controlled(battles, features=features, generator=np.random.default_rng(0))
            score, low, high = found.scores["model"]
            result[name] = {"score": score, "low": low, "high": high}
        result["style_coefficients"] = dict(found.coefficients)
    return {**result, "position": position(played), "categories": by_category(played, values)}


def arena_battles(played: Played, model: str = "model") -> Battles:
    """The games of a model against the baseline, ready for :func:`style_controlled`, alone or with other models'."""
    games = [game for pair in played.pairs().values() for game in pair]
    matches = [played.matches[game.item] for game in games]
    return Battles(
        models=[model] * len(games),
        items=[game.item for game in games],
        outcomes=np.array([game.preference for game in games], dtype=np.float64),
        weights=np.array([game.weight for game in games], dtype=np.float64),
        styles=np.stack([style_difference(match.answer, match.opponent, match.tokens) for match in matches])
        if matches
        else np.zeros((0, 4)),
    )


def _length_control(
    played: Played, values: dict[str, float], gamed: GamedRows | None, difficulties: Sequence[float] | None
) -> dict[str, Any] | None:
    """``None`` where there are too few items to fit; its rate is ``None`` where the fit's penalty leaves nothing."""
    if len(values) < 10:
        return None
    matches = [played.matches[item] for item in values]
    fitted: LengthControlled = length_controlled(
        list(values.values()),
        [len(match.answer) for match in matches],
        [len(match.opponent) for match in matches],
        difficulties=difficulties,
        gamed=gamed,
    )
    variant = "v1" if gamed is not None else "minimal" if difficulties is None else "noreg"
    return {
        "variant": f"length_controlled_{variant}",
        "win_rate": fitted.win_rate if fitted.fitted else None,
        # Without difficulties all items are predicted alike, which says nothing of the error.
        "standard_error": fitted.standard_error if fitted.fitted and difficulties is not None else None,
        "coefficients": dict(fitted.coefficients),
    }


def _lengths(played: Played) -> dict[str, float]:
    """Mean characters of an answer."""
    matches = [played.matches[item] for item in played.pairs()]
    if not matches:
        return {}
    return {
        "model": float(np.mean([len(match.answer) for match in matches])),
        "opponent": float(np.mean([len(match.opponent) for match in matches])),
    }
