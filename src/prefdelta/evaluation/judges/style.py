"""Arena-Hard's style control: a Bradley-Terry model in which length and markdown may explain a win, too.

For an answer of the model against the baseline's, with features x of their difference in style,

    logit P(model wins) = c_model - c_baseline + beta . x

Every feature is divided by its standard deviation over all battles. The reference (lmarena/arena-hard-auto) also
subtracts its mean, so that a score is the one at the *average* difference in style of all models in the pool; a model
by itself would then be controlled for nothing but noise, and every model that joins the pool changes all scores. Here
nothing is subtracted: the score is the one at *equal* style, as in AlpacaEval's length control.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array

FEATURES = ("length", "headers", "lists", "bold")

_CODE = re.compile(r"```[^`]*```")
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LIST = re.compile(r"^[^\S\n]*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_STEPS = 50
_SMALL = 1e-6  # a ridge that keeps the fit finite where one side wins every battle


@dataclass(frozen=True)
class Battles:
    """Battles of models against one baseline.

    Attributes:
        models: the model of each battle.
        items: the question of each battle; battles of one question are resampled together.
        outcomes: 1 where the model won, 0 where the baseline did, 0.5 for a tie.
        weights: how many times each counts.
        styles: (battles, 4), the features of :func:`style_difference`.
    """

    models: Sequence[str]
    items: Sequence[str]
    outcomes: Array
    weights: Array
    styles: Array


@dataclass(frozen=True)
class StyleControlled:
    """Scores in percent, probability of beating the baseline, with 95 % bootstrap intervals; and what style does.

    ``coefficients`` are per standard deviation of the feature.
    """

    scores: Mapping[str, tuple[float, float, float]]
    coefficients: Mapping[str, float]


def style_difference(model: str, baseline: str, tokens: tuple[int | None, int | None] = (None, None)) -> Array:
    """Relative difference in length and in the density of headers, list items and bold text; (4,).

    With t tokens and counts k outside of code blocks, the length feature is (t_m - t_b) / (t_m + t_b) and the others
    are (d_m - d_b) / (d_m + d_b + 1) with d = k / (t + 1). The reference counts GPT-4o tokens; where ``tokens`` does
    not tell them, words and marks are counted instead.
    """
    ours, theirs = _style(model, tokens[0]), _style(baseline, tokens[1])
    length = (ours[0] - theirs[0]) / (ours[0] + theirs[0]) if ours[0] + theirs[0] else 0.0
    one, other = ours[1:] / (ours[0] + 1), theirs[1:] / (theirs[0] + 1)
    return np.concatenate([[length], (one - other) / (one + other + 1)])


def style_controlled(
    battles: Battles,
    *,
    features: Sequence[str] = FEATURES,
    resamples: int = 200,
    generator: np.random.Generator,
) -> StyleControlled:
    """Fit the model by maximum likelihood and say how often each model would win at equal style.

    Args:
        battles: any number of models against the same baseline.
        features: which differences in style may explain a win; none for the plain Bradley-Terry scores.
        resamples: bootstrap resamples of the questions.
        generator: of the bootstrap.

    Raises:
        PrefdeltaError: a feature is not known.
    """
    unknown = sorted(set(features) - set(FEATURES))
    if unknown:
        raise PrefdeltaError(f"there is no style feature {unknown[0]!r}; known: {', '.join(FEATURES)}.")
    names = sorted(set(battles.models))
    design = _design(battles, names, features)
    fitted = _fit(design, battles.outcomes, battles.weights)
    _, rows = np.unique(np.asarray(battles.items), return_inverse=True)
    count = int(rows.max()) + 1
    drawn = np.stack(
        [
            _fit(design, battles.outcomes, battles.weights * times[rows])[: len(names)]
            for times in generator.multinomial(count, np.full(count, 1 / count), size=resamples)
        ]
    )
    low, high = np.quantile(_percent(drawn), [0.025, 0.975], axis=0)
    return StyleControlled(
        scores={
            name: (float(_percent(fitted[place])), float(low[place]), float(high[place]))
            for place, name in enumerate(names)
        },
        coefficients={name: float(value) for name, value in zip(features, fitted[len(names) :], strict=True)},
    )


def _design(battles: Battles, names: Sequence[str], features: Sequence[str]) -> Array:
    """One column a model (the baseline's coefficient is 0, only differences matter), then the scaled features."""
    styles = battles.styles[:, [FEATURES.index(name) for name in features]]
    spread = styles.std(axis=0, ddof=1)
    scaled = styles / np.where(spread > 0, spread, 1)
    chosen = np.asarray(battles.models)[:, None] == np.asarray(names)[None]
    return np.hstack([chosen.astype(np.float64), scaled])


def _fit(design: Array, outcomes: Array, weights: Array) -> Array:
    """Newton's method for weighted logistic regression with a tiny ridge."""
    beta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weights * (outcomes - p)) - _SMALL * beta
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + _SMALL * np.eye(beta.size)
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step * min(1.0, 5 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-9:
            break
    return beta


def _percent(coefficients: Array) -> Array:
    result: Array = 100 / (1 + np.exp(-coefficients))
    return result


def _style(text: str, tokens: int | None) -> Array:
    prose = _CODE.sub("", text)
    length = tokens if tokens is not None else len(_TOKEN.findall(text))
    return np.array([length, *(len(pattern.findall(prose)) for pattern in (_HEADER, _LIST, _BOLD))], dtype=np.float64)
