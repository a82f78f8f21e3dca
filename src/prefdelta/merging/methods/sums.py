"""Weighted sums Σ cᵢ ΔWᵢ: exact, shortened, or with coefficients read off the Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.linalg.stack import Stack
from prefdelta.merging.methods.options import ProjectionOptions, SvdOptions
from prefdelta.merging.methods.spherical import directions
from prefdelta.merging.registry import Merged, Options, implements


@implements("cat")
def cat(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> LowRank:
    """ΔW = Σᵢ wᵢ ΔWᵢ = [w₁B₁ … w_NB_N] [A₁; …; A_N].

    The weights are plain factors: 1 keeps an update whole, -1 subtracts it, and they are not divided by their sum.

    On dense matrices::

        def cat(deltas, weights):
            return sum(w * delta for w, delta in zip(weights, deltas))

    Cost: O((d_out + d_in) Σrᵢ). Result: rank Σ rᵢ, exact.
    """
    return Stack.of(deltas).weighted(weights)


@implements("linear")
def linear(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> LowRank:
    """ΔW = Σᵢ wᵢ ΔWᵢ, without the directions in which the updates repeat or cancel one another.

    Unlike PEFT's combination of the same name, which sums A and B separately and so brings in the cross terms
    BᵢAⱼ, this is the sum of the products.

    On dense matrices::

        def linear(deltas, weights):
            return sum(w * delta for w, delta in zip(weights, deltas))

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ. Result: rank ≤ R, exact to float64 rounding.
    """
    stack = Stack.of(deltas)
    exact, _ = stack.truncated(weights, stack.rank)
    return exact


@implements("svd")
def svd(deltas: Sequence[LowRank], *, weights: Sequence[float], options: SvdOptions) -> Merged:
    """The rank-k matrix nearest to Σᵢ wᵢ ΔWᵢ in Frobenius norm: its k leading singular triples.

    On dense matrices::

        def svd(deltas, weights, rank):
            U, S, Vt = torch.linalg.svd(sum(w * delta for w, delta in zip(weights, deltas)), full_matrices=False)
            k = rank or max(torch.linalg.matrix_rank(delta) for delta in deltas)
            return U[:, :k] * S[:k] @ Vt[:k]

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ; the dense matrix is never formed.

    Notes: ``kept_energy``, the share of ‖Σ wᵢ ΔWᵢ‖² that the result holds.
    """
    delta, kept = Stack.of(deltas).truncated(weights, options.rank or max(delta.rank for delta in deltas))
    return Merged(delta, {"kept_energy": kept})


@implements("projection")
def projection(deltas: Sequence[LowRank], *, weights: Sequence[float], options: ProjectionOptions) -> Merged:
    """ΔW = Σⱼ cⱼ ΔWⱼ with ⟨ΔW, ΔWᵢ⟩ = wᵢ ‖ΔWᵢ‖² for all i.

    In unit vectors uᵢ = ΔWᵢ/‖ΔWᵢ‖ with cosines K = (⟨uᵢ, uⱼ⟩), it is ΔW = Σ xᵢ uᵢ with K x = (wᵢ ‖ΔWᵢ‖), solved by
    the pseudo-inverse. For orthogonal updates that is their sum, for N identical ones (at weight 1) their average,
    and between the two it interpolates: what the updates share is counted once.

    On dense matrices::

        def projection(deltas, weights, tolerance):
            deltas, weights = zip(*((delta, w) for delta, w in zip(deltas, weights) if w != 0 and delta.norm() > 0))
            u = torch.stack([(delta / delta.norm()).flatten() for delta in deltas])
            wanted = torch.stack([w * delta.norm() for w, delta in zip(weights, deltas)])
            x = torch.linalg.pinv(u @ u.T, rtol=tolerance, hermitian=True) @ wanted
            return (x @ u).reshape(deltas[0].shape)

    Cost: O(N² (d_out + d_in) r²). Result: rank Σ rᵢ.

    Notes: ``kept_projection``, the least of ⟨ΔW, ΔWᵢ⟩ / (wᵢ ‖ΔWᵢ‖²); it is 1 unless updates contradict one another.
    """
    products = Stack.of(deltas).gram()
    norms = products.diagonal().sqrt()
    present = [index for index in range(len(deltas)) if norms[index] > 0 and weights[index] != 0]
    if not present:
        return Merged(LowRank.zero(deltas[0].shape), {"kept_projection": 1.0})
    length = norms[present]
    cosines = products[present][:, present] / (length[:, None] * length)
    wanted = torch.tensor([weights[index] for index in present], dtype=torch.float64) * length
    solved = torch.linalg.pinv(cosines, rtol=options.tolerance, hermitian=True) @ wanted
    kept = (cosines @ solved / wanted).min()
    chosen = [deltas[index] for index in present]
    return Merged(concat(chosen, (solved / length).tolist()), {"kept_projection": float(kept)})


@implements("model-stock")
def model_stock(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> Merged:
    """ΔW = t · Σ wᵢ ΔWᵢ / Σ wᵢ with t = N c / (1 + (N - 1) c), c the mean of the pairwise cosines.

    The paper has one angle between two fine-tuned models and leaves N > 2 open; the mean of the cosines is what
    mergekit takes. A negative mean would make t negative or larger than 1 (N = 3, c = -0.6 gives 9), away from the
    interpolation that t stands for, so c is taken as at least 0. Zero updates are left out.

    On dense matrices::

        def model_stock(deltas, weights):
            deltas, weights = zip(*((delta, w) for delta, w in zip(deltas, weights) if delta.norm() > 0))
            n, u = len(deltas), torch.stack([(delta / delta.norm()).flatten() for delta in deltas])
            c = max(float(((u @ u.T).sum() - n) / (n * (n - 1))), 0.0) if n > 1 else 1.0
            t = n * c / (1 + (n - 1) * c)
            return t * sum(w * delta for w, delta in zip(weights, deltas)) / sum(weights)

    Cost: O(N² (d_out + d_in) r²). Result: rank Σ rᵢ.

    Notes: ``mean_cosine`` (before the bound) and ``interpolation``, t.
    """
    present, cosines, _, share = directions(deltas, weights)
    if not present:
        return Merged(LowRank.zero(deltas[0].shape))
    count = len(present)
    cosine = 1.0
    if count > 1:
        cosine = float(torch.triu(cosines, diagonal=1).sum()) / (count * (count - 1) / 2)
    bounded = min(max(cosine, 0.0), 1.0)
    t = count * bounded / (1 + (count - 1) * bounded)
    mean = concat(present, share.tolist())
    return Merged(mean.scaled(t), {"mean_cosine": cosine, "interpolation": t})
