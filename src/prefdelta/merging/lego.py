"""LoRA-LEGO: cluster the rank-1 pieces of all updates, keep one piece for each cluster."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from prefdelta.lowrank import LowRank
from prefdelta.merging.registry import Merged, Options, method

_STEPS = 300


class LegoOptions(Options):
    """``rank`` of the result, the number of clusters; the largest rank of the inputs if left out."""

    rank: int | None = Field(default=None, gt=0)


@method(
    "lego",
    summary="Cluster the rank-1 pieces of all updates and keep one mean piece for each cluster.",
    paper="LoRA-LEGO, arXiv 2409.16167.",
    options=LegoOptions,
)
def lego(deltas: Sequence[LowRank], *, weights: Sequence[float], options: LegoOptions) -> Merged:
    """k-means over the minimal semantic units [b; a] of all updates, one rank-1 piece b aᵀ for each cluster.

    - Units: the singular pieces √σ [u; v] of w̄ᵢ ΔWᵢ, with w̄ᵢ the weight over the mean size of the weights. The
      paper takes columns of B and rows of A as they lie, which depends on how an update is factored; singular pieces
      do not.
    - [b; a] and [-b; -a] are the same piece, so distances are taken to the nearer of the two and members are turned
      to their centre before averaging.
    - Parameter reweighting: a centre is stretched to the mean norm of its members (averages of units shrink).
    - Output reweighting: the result is multiplied by √(r/k), r the mean rank of the updates, k the number of
      clusters.
    - The start is the largest unit, then always the unit farthest from those chosen, so there is nothing random.

    All distances come from the R x R inner products of the units, so a step costs O(R² k) whatever the module's size.

    Cost: O((d_out + d_in) R² + steps R² k), R = Σ rᵢ. Result: rank k.

    Notes: ``steps`` until the clusters stayed the same; ``spread``, Σ distance² to the centres / Σ norm² of the units.
    """
    total = sum(abs(weight) for weight, delta in zip(weights, deltas, strict=True) if delta.rank)
    relative = sum(1 for weight, delta in zip(weights, deltas, strict=True) if delta.rank and weight) / (total or 1)
    parts = [delta.scaled(weight * relative).svd() for delta, weight in zip(deltas, weights, strict=True)]
    ranks = [len(part.S) for part in parts if len(part.S)]
    if not ranks:
        return Merged(LowRank.zero(deltas[0].shape))
    roots = torch.cat([part.S.sqrt() for part in parts])
    b = torch.cat([part.U for part in parts], dim=1) * roots
    a = torch.cat([part.V for part in parts], dim=1) * roots
    products = b.T @ b + a.T @ a
    count = min(options.rank or max(delta.rank for delta in deltas), len(roots))
    centres, steps, spread = _clusters(products, count)
    stretch = (sum(ranks) / len(ranks) / count) ** 0.25  # on both factors: their product gets √(r/k)
    return Merged(
        LowRank((b @ centres.T) * stretch, (centres @ a.T) * stretch),
        {"steps": float(steps), "spread": spread},
    )


def _clusters(products: Tensor, count: int) -> tuple[Tensor, int, float]:
    """Centres as coefficients on the units, ``(count, R)``, already stretched; steps taken; remaining spread."""
    squares = products.diagonal()
    first = int(squares.argmax())
    chosen = [first]
    away = _distances(products, squares, torch.eye(len(squares), dtype=squares.dtype)[[first]])[:, 0]
    while len(chosen) < count:
        chosen.append(int(away.argmax()))
        unit = torch.eye(len(squares), dtype=squares.dtype)[[chosen[-1]]]
        away = torch.minimum(away, _distances(products, squares, unit)[:, 0])
    centres = torch.eye(len(squares), dtype=squares.dtype)[chosen]
    labels = torch.full((len(squares),), -1)
    steps = 0
    for _ in range(_STEPS):
        distances = _distances(products, squares, centres)
        # A centre keeps a member of its own: an emptied cluster would lose a rank.
        nearest = distances.argmin(dim=1)
        if bool((nearest == labels).all()):
            break
        labels, steps = nearest, steps + 1
        signs = torch.sign((products @ centres.T)[torch.arange(len(squares)), labels])
        signs = torch.where(signs == 0, 1.0, signs)
        for cluster in range(count):
            members = labels == cluster
            if bool(members.any()):
                centres[cluster] = torch.where(members, signs, 0.0) / members.sum()
    spread = float(_distances(products, squares, centres).min(dim=1).values.sum() / squares.sum())
    norms = (centres @ products * centres).sum(dim=1).clamp(min=0).sqrt()
    for cluster in range(count):
        members = labels == cluster
        if float(norms[cluster]) > 0 and bool(members.any()):
            centres[cluster] *= squares[members].sqrt().mean() / norms[cluster]
    return centres, steps, spread


def _distances(products: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """min over the sign of ‖x ∓ c‖², ``(R, count)``."""
    norms = (centres @ products * centres).sum(dim=1)
    return (squares[:, None] + norms - 2 * (products @ centres.T).abs()).clamp(min=0)
