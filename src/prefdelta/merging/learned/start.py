"""Where the coefficients of a learned merge begin: the one constant with the least loss, by forward passes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from prefdelta.merging.learned.optimise import data_seed
from prefdelta.merging.learned.scalarise import check_preference, gradient_weights
from prefdelta.merging.learned.tasks import Task
from prefdelta.merging.tuning.line_search import maximise
from prefdelta.recipe.learning import Learning

_AROUND = 0.5
_BUDGET = 8
_STEPS = 4  # whose rows are looked at


def calibrated_start(
    branched: nn.Module,
    coefficients: Tensor,
    tasks: Sequence[Task],
    anchors: Mapping[str, float],
    settings: Learning,
    *,
    seed: int,
) -> float:
    """The constant φ with the least Ψ on the rows of the first four steps, of at most eight on a log axis.

    At AdamW's rate of 1e-3 a coefficient moves by about 0.5 in 500 steps, so a start that is far too small, as for
    deltas that were trained for a short time, is never left.

    Args:
        branched: the model with branches that read ``coefficients``, which is left as it was.
        coefficients: φ ``(K,)``.
        tasks: one preference weight each.
        anchors: zᵢ by task.
        settings: the scalarisation.
        seed: of the data order.
    """
    preference = check_preference(settings.preference, len(tasks))
    fixed = torch.tensor([anchors[task.name] for task in tasks], dtype=torch.float64)
    batches = [
        [batch for step in islice(task.data.stream(data_seed(seed, task.name), 0), _STEPS) for batch in step]
        for task in tasks
    ]
    before = coefficients.clone()

    def score(value: float) -> float:
        with torch.no_grad():
            coefficients.fill_(value)
            means = torch.stack(
                [
                    torch.cat([task.objective(branched, batch).double().cpu().flatten() for batch in mine]).mean()
                    for task, mine in zip(tasks, batches, strict=True)
                ]
            )
        total, _ = gradient_weights(means, fixed, preference, how=settings.scalarisation, alpha=settings.alpha)
        return -total if math.isfinite(total) else -math.inf

    found = maximise(score, _AROUND, _BUDGET)
    with torch.no_grad():
        coefficients.copy_(before)
    return found
