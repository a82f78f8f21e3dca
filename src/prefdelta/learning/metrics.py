"""What is measured of merges over several tasks: how much of every adapter is in them, and how well they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank
from prefdelta.merging.stack import Stack


def effective_rank(singular_values: Tensor) -> float:
    """exp(-Σ p log p) with p = s / Σ s: how many directions carry a matrix; 0 for the zero matrix.

    The singular values are not squared.

    Source: Roy and Vetterli, 2007; arXiv 2603.26299.

    >>> effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0]))
    3.0
    """
    s = singular_values.double()
    if not float(s.sum()) > 0:
        return 0.0
    p = s / s.sum()
    return round(float(torch.exp(torch.special.entr(p).sum())), 12)


class Coverage(NamedTuple):
    """How many directions some updates span, counted in three ways; see :func:`coverage`."""

    separate: float
    agnostic: float
    aware: float


def coverage(deltas: Sequence[LowRank]) -> Coverage:
    """Effective ranks of one module's updates.

    - ``separate``: the sum of every update's own effective rank.
    - ``agnostic``: of the stack of the vectorised updates vec(ΔWᵢ), one row per adapter; at most their number.
    - ``aware``: of the stack of their rank-1 terms vec(σ u vᵀ), from every update's SVD, so that it does not depend on
      how an update is factored. For one update it equals ``separate``.

    A sum of effective ranks and one effective rank are not like for like; ``aware / separate`` tells how many
    directions the updates share, not how good a merge is.

    Cost: O((d_out + d_in) R² + R³); the stacks are never formed.

    Source: arXiv 2603.26299, coverage study.
    """
    svds = [delta.svd() for delta in deltas]
    terms = Stack.of([LowRank(svd.U * svd.S, svd.V.T) for svd in svds])
    return Coverage(
        separate=sum(effective_rank(svd.S) for svd in svds),
        agnostic=effective_rank(_roots(terms.gram())),
        aware=effective_rank(_roots(terms.left * terms.right)),
    )


def _roots(gram: Tensor) -> Tensor:
    """The singular values of a matrix whose rows have these inner products."""
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt() if len(gram) else gram.new_zeros(0)


def anisotropy(sensitivities: Tensor) -> float:
    """cond(J) of J_ik = ⟨∇fᵢ, Sₖ⟩ ``(tasks, directions)``: its largest singular value over its smallest.

    1 where all directions move the tasks alike; infinite where some mixture of the tasks is moved by no direction.
    The rows are what :func:`prefdelta.learning.optimise.task_gradient` gives.

    Source: arXiv 2603.26299.
    """
    values = torch.linalg.svdvals(sensitivities.double())
    if not values.numel() or not float(values[0]) > 0:
        return float("inf")
    # Beyond the precision of J's own numbers the smallest one is rounding.
    smallest = float(values[-1])
    floor = float(values[0]) * torch.finfo(sensitivities.dtype).eps * max(sensitivities.shape)
    return float(values[0]) / smallest if smallest > floor else float("inf")


def misalignment(first: Tensor, second: Tensor) -> float:
    """ξ = 1 - |cos(h, h')| of two preferences' sensitivities hₖ = ⟨∇Ψ, Sₖ⟩ ``(directions,)``; 1 where one is zero.

    0 where both preferences ask for the same change, up to its sign, 1 where they ask for unrelated ones.

    Source: arXiv 2603.26299.
    """
    lengths = float(first.double().norm() * second.double().norm())
    return 1 - abs(float(first.double() @ second.double())) / lengths if lengths else 1.0


def normalised_accuracy(merged: Mapping[str, float], single: Mapping[str, float]) -> dict[str, float]:
    """100 · accuracy of the merge / accuracy of the task's own adapter, by task; it may exceed 100.

    Raises:
        PrefdeltaError: the tasks differ, or an adapter gets nothing right.

    >>> normalised_accuracy({"mnist": 0.72, "digits": 0.95}, {"mnist": 0.9, "digits": 0.95})
    {'mnist': 80.0, 'digits': 100.0}
    """
    if set(merged) != set(single):
        raise PrefdeltaError(f"accuracies of different tasks: {sorted(merged)} and {sorted(single)}.")
    for name, value in single.items():
        if not value > 0:
            raise PrefdeltaError(f"the adapter of task {name!r} has accuracy {value}; nothing can be a share of it.")
    return {name: round(100 * merged[name] / single[name], 10) for name in merged}


def joint_hits(logits: Tensor, labels: Tensor, ks: Sequence[int] = (1, 3, 5, 10)) -> dict[int, float]:
    """Hits@k by k: the share of items whose label is among the k largest logits.

    For the joint task, pool the items of all tasks, let one head score the classes of all of them, and give every
    label as its place among these. Counts are pooled: a task with more items weighs more. An equal logit of an earlier
    class counts as larger.

    Args:
        logits: ``(items, classes)``.
        labels: ``(items,)``.
        ks: the k to report; one beyond the number of classes is a hit always.

    Source: arXiv 2410.19735 (KnOTS), joint evaluation.
    """
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    ahead = (logits > own) | ((logits == own) & (classes < labels[:, None]))
    place = ahead.sum(dim=1)
    return {k: float((place < k).double().mean()) for k in ks}


def union_labels(classes: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """The classes of all tasks, each text once in order of appearance, and by task the place of each of its classes.

    >>> union_labels({"mnist": ["zero", "one"], "letters": ["a", "one"]})
    (('zero', 'one', 'a'), {'mnist': (0, 1), 'letters': (2, 1)})
    """
    places: dict[str, int] = {}
    for texts in classes.values():
        for text in texts:
            places.setdefault(text, len(places))
    return tuple(places), {task: tuple(places[text] for text in texts) for task, texts in classes.items()}


def unseen_accuracy(accuracies: Mapping[str, float], merged_tasks: Sequence[str]) -> float:
    """The mean accuracy over the tasks whose adapters are not in the merge.

    Raises:
        PrefdeltaError: there is no such task.
    """
    unseen = [value for name, value in accuracies.items() if name not in set(merged_tasks)]
    if not unseen:
        raise PrefdeltaError("every task's adapter is in the merge; leave out some to measure unseen tasks.")
    return sum(unseen) / len(unseen)
