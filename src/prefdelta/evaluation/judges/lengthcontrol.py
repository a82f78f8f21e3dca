"""Length-controlled win rates: what would the judge say if both answers were equally long?

A generalised linear model of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475) explains the judge's preference p of
each item by the model's strength, the difference in length, and how hard the item is:

    logit p = theta + phi tanh(delta / sigma) + psi gamma

with delta the characters of the baseline's answer minus the model's, sigma its standard deviation over the items and
gamma a known difficulty of the item. The length-controlled win rate is the mean prediction with delta = 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array

_FOLDS = 5
_PENALTIES = np.logspace(-4, 4, 10)  # scikit-learn's grid of C, which the reference uses
_SEED = 123
_GAMED_WEIGHT = 0.2 / 2  # lambda = 0.2, shared by two gamed baselines


@dataclass(frozen=True)
class GamedRows:
    """Judgements of two baselines that were made to look worse or better by length alone.

    They hold phi to what length does to the one judge and baseline they were made with: use them for no other.

    Attributes:
        preferences: in [0, 1].
        lengths: delta / sigma of each row.
        difficulties: gamma of each row.
    """

    preferences: Array
    lengths: Array
    difficulties: Array


@dataclass(frozen=True)
class LengthControlled:
    """A length-controlled win rate in percent, its standard error over items, and the fitted coefficients."""

    win_rate: float
    standard_error: float
    coefficients: Mapping[str, float]

    @property
    def fitted(self) -> bool:
        """Whether the penalty left anything of the model's own strength.

        With some hundred items or fewer it often does not; the rate is then exactly 50, whatever the judge said.
        """
        return self.coefficients["model"] != 0


def length_controlled(
    preferences: Sequence[float],
    model_lengths: Sequence[int],
    baseline_lengths: Sequence[int],
    *,
    difficulties: Sequence[float] | None = None,
    gamed: GamedRows | None = None,
) -> LengthControlled:
    """Fit the model and predict at equal length.

    The fit is the reference's: no intercept, L1 penalty, its strength chosen by five-fold cross-validation over items
    on the log loss with soft labels. Without ``difficulties`` and ``gamed`` it is ``length_controlled_minimal``, for
    any judge and baseline; with difficulties alone ``length_controlled_noreg``; with both ``length_controlled_v1``.

    Args:
        preferences: of the judge for the model over the baseline, in [0, 1], one an item.
        model_lengths: characters of the model's answers.
        baseline_lengths: characters of the baseline's answers.
        difficulties: gamma of each item, as AlpacaEval publishes it for its own judge and baseline.
        gamed: AlpacaEval's rows of gamed baselines.

    Raises:
        PrefdeltaError: scikit-learn is missing, or there are fewer items than folds.
    """
    p = np.asarray(preferences, dtype=np.float64)
    if p.size < _FOLDS:
        raise PrefdeltaError(
            f"a length-controlled win rate needs at least {_FOLDS} judged items, and there are {p.size}."
        )
    gap = np.asarray(baseline_lengths, dtype=np.float64) - np.asarray(model_lengths, dtype=np.float64)
    sigma = gap.std(ddof=1)
    columns = {"length": np.tanh(gap / sigma) if sigma > 0 else np.zeros_like(gap)}
    if difficulties is not None:
        columns["difficulty"] = np.asarray(difficulties, dtype=np.float64)
    columns["model"] = np.ones_like(gap)
    design, weights, targets = np.column_stack(list(columns.values())), np.ones_like(gap), p
    if gamed is not None:
        extra = {"length": np.tanh(gamed.lengths), "difficulty": gamed.difficulties, "model": 0 * gamed.lengths}
        design = np.vstack([np.column_stack([extra[name] for name in columns]), design])
        weights = np.concatenate([np.full(gamed.preferences.size, _GAMED_WEIGHT), weights])
        targets = np.concatenate([gamed.preferences, targets])
    fitted = _fit(design, targets, weights)
    equal = np.column_stack([0 * column if name == "length" else column for name, column in columns.items()])
    predicted = _sigmoid(equal @ fitted)
    return LengthControlled(
        win_rate=100 * float(predicted.mean()),
        standard_error=100 * float(predicted.std(ddof=1) / np.sqrt(predicted.size)),
        coefficients={name: float(value) for name, value in zip(columns, fitted, strict=True)},
    )


def _fit(design: Array, p: Array, weights: Array) -> Array:
    """Soft-label L1 logistic regression: each row stands twice, for a win and a loss, weighted by their probability."""
    selection = _sklearn("model_selection")
    rows = np.arange(p.size)
    doubled, outcome = np.vstack([design, design]), np.concatenate([np.ones(p.size), np.zeros(p.size)])
    probability = np.concatenate([p, 1 - p])
    mass = probability * np.concatenate([weights, weights])
    groups = np.concatenate([rows, rows])
    folds = list(selection.GroupKFold(n_splits=_FOLDS).split(doubled, outcome, groups))
    losses = [
        np.mean(
            [
                _loss(
                    doubled[held] @ _solve(doubled[kept], outcome[kept], mass[kept], c),
                    held,
                    probability,
                    outcome,
                    np.concatenate([weights, weights]),
                )
                for kept, held in folds
            ]
        )
        for c in _PENALTIES
    ]
    return _solve(doubled, outcome, mass, float(_PENALTIES[int(np.argmin(losses))]))


def _solve(design: Array, outcome: Array, mass: Array, c: float) -> Array:
    model: Any = _sklearn("linear_model").LogisticRegression(
        C=c, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=_SEED
    )
    fitted: Array = model.fit(design, outcome, sample_weight=mass).coef_[0]
    return fitted


def _loss(logits: Array, held: NDArray[np.int64], probability: Array, outcome: Array, weights: Array) -> float:
    """Mean weighted cross-entropy of the held-out rows; both copies of a row have its probability of a win."""
    win = np.where(outcome[held] == 1, probability[held], 1 - probability[held])
    return float(-np.mean(weights[held] * (win * -np.logaddexp(0, -logits) + (1 - win) * -np.logaddexp(0, logits))))


def _sigmoid(values: Array) -> Array:
    result: Array = np.exp(-np.logaddexp(0, -values))
    return result


def _sklearn(part: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"sklearn.{part}")
    except ModuleNotFoundError as error:
        raise PrefdeltaError(
            "length-controlled win rates need scikit-learn; install it with pip install 'prefdelta[judge]'."
        ) from error
