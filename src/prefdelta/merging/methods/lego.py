"""LoRA-LEGO: cluster the rank-1 pieces of all updates, keep one piece for each cluster."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.merging.methods.options import LegoOptions
from prefdelta.merging.registry import Merged, implements

_STEPS = 300
_ORTHOGONAL = 1e-9  # a cosine up to this is rounding


@implements("lego")
def lego(deltas: Sequence[LowRank], *, weights: Sequence[float], options: LegoOptions) -> Merged:
    """k-means over the minimal semantic units [b; a] of all updates, one rank-1 piece b aᵀ for each cluster.

    - Units: the singular pieces √σ [u; v] of w̄ᵢ ΔWᵢ, with w̄ᵢ the weight over the mean size of the weights. The
      paper takes columns of B and rows of A as they lie, which depends on how an update is factored; singular pieces
      do not.
    - [b; a] and [-b; -a] are the same piece, so distances are taken to the nearer of the two and members are turned
      to their centre before averaging. Pieces of one update are orthogonal; a member that is orthogonal to its centre
      keeps the sign at which the entry of largest magnitude in u is positive.
    - Parameter reweighting: a centre is stretched to the mean norm of its members (averages of units shrink).
    - Output reweighting: the result is multiplied by √(r/k), r the mean rank of the updates, k the number of
      clusters.
    - The start is the largest unit, then always the unit farthest from those chosen, so there is nothing random.

    All distances come from the R x R inner products of the units, so a step costs O(R² k) whatever the module's size.

    On dense matrices::

        def apart(x, centres):
            return torch.minimum(torch.cdist(x, centres), torch.cdist(x, -centres))

        def lego(deltas, weights, rank):
            deltas, weights = zip(*((delta, w) for delta, w in zip(deltas, weights) if w != 0 and delta.norm() > 0))
            mean = sum(map(abs, weights)) / len(weights)
            ranks = [int(torch.linalg.matrix_rank(delta)) for delta in deltas]
            parts = [torch.linalg.svd(delta * w / mean, full_matrices=False) for delta, w in zip(deltas, weights)]
            x = torch.cat([(torch.cat([U, Vt.T]) * S.sqrt())[:, :r] for (U, S, Vt), r in zip(parts, ranks)], dim=1).T
            rows = deltas[0].shape[0]
            x = x * torch.sign(x.gather(1, x[:, :rows].abs().argmax(dim=1)[:, None]))
            k = min(rank or max(ranks), len(x))
            centres = x[x.norm(dim=1).argmax()][None]
            while len(centres) < k:
                centres = torch.cat([centres, x[apart(x, centres).min(dim=1).values.argmax()][None]])
            nearest = None
            for _ in range(300):
                before, nearest = nearest, apart(x, centres).argmin(dim=1)
                if before is not None and (nearest == before).all():
                    break
                cosine = torch.cosine_similarity(x, centres[nearest])
                turned = x * torch.where(cosine < -1e-9, -1.0, 1.0)[:, None]
                clusters = [nearest == j for j in range(k)]
                means = [turned[own].mean(dim=0) if own.any() else c for own, c in zip(clusters, centres)]
                centres = torch.stack(means)
            sizes = [x[own].norm(dim=1).mean() if own.any() else c.norm() for own, c in zip(clusters, centres)]
            centres = centres / centres.norm(dim=1, keepdim=True) * torch.stack(sizes)[:, None]
            return (sum(ranks) / len(ranks) / k) ** 0.5 * centres[:, :rows].T @ centres[:, rows:]

    Cost: O((d_out + d_in) R² + steps R² k), R = Σ rᵢ. Result: rank k.

    Notes: ``steps`` until the clusters stayed the same; ``spread``, Σ distance² to the centres / Σ norm² of the units.
    """
    norms = Stack.of(deltas).norms()
    sizes = [abs(weight) for weight, norm in zip(weights, norms, strict=True) if weight and norm > 0]
    relative = len(sizes) / sum(sizes) if sizes else 1.0
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
        inner = (products @ centres.T)[torch.arange(len(squares)), labels]
        lengths = (centres @ products * centres).sum(dim=1).clamp(min=0).sqrt()[labels] * squares.sqrt()
        signs = torch.where(inner < -_ORTHOGONAL * lengths, -1.0, 1.0).to(squares.dtype)
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
