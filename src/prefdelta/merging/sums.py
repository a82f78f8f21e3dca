"""Weighted sums Σ cᵢ ΔWᵢ: exact, shortened, or with coefficients read off the Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from prefdelta.lowrank import SVD_TOLERANCE, LowRank, concat
from prefdelta.merging.average import shares
from prefdelta.merging.gram import gram
from prefdelta.merging.registry import Merged, Options, method
from prefdelta.merging.stack import Stack


@method(
    "cat",
    summary="Weighted sum of the updates, exact: the factors side by side, at the sum of their ranks.",
    paper="PEFT's combination type cat; task arithmetic, arXiv 2212.04089.",
)
def cat(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> LowRank:
    """ΔW = Σᵢ wᵢ ΔWᵢ = [w₁B₁ … w_NB_N] [A₁; …; A_N].

    The weights are plain factors: 1 keeps an update whole, -1 subtracts it, and they are not divided by their sum.

    Cost: O((d_out + d_in) Σrᵢ). Result: rank Σ rᵢ, exact.
    """
    return Stack.of(deltas).weighted(weights)


@method(
    "linear",
    summary="Weighted sum of the updates, exact, at the rank that it really has.",
    paper="Task arithmetic, arXiv 2212.04089.",
)
def linear(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> LowRank:
    """ΔW = Σᵢ wᵢ ΔWᵢ, without the directions in which the updates repeat or cancel one another.

    Unlike PEFT's combination of the same name, which sums A and B separately and so brings in the cross terms
    BᵢAⱼ, this is the sum of the products.

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ. Result: rank ≤ R, exact to float64 rounding.
    """
    stack = Stack.of(deltas)
    exact, _ = stack.truncated(weights, stack.rank)
    return exact


class SvdOptions(Options):
    """``rank`` of the result; the largest rank of the inputs if left out."""

    rank: int | None = Field(default=None, gt=0)


@method(
    "svd",
    summary="The best approximation of the weighted sum at a fixed rank.",
    paper="Eckart and Young 1936; PEFT's combination type svd.",
    options=SvdOptions,
)
def svd(deltas: Sequence[LowRank], *, weights: Sequence[float], options: SvdOptions) -> Merged:
    """The rank-k matrix nearest to Σᵢ wᵢ ΔWᵢ in Frobenius norm: its k leading singular triples.

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ; the dense matrix is never formed.

    Notes: ``kept_energy``, the share of ‖Σ wᵢ ΔWᵢ‖² that the result holds.
    """
    delta, kept = Stack.of(deltas).truncated(weights, options.rank or max(delta.rank for delta in deltas))
    return Merged(delta, {"kept_energy": kept})


class ProjectionOptions(Options):
    """Eigenvalues of the updates' cosine matrix at most ``tolerance`` times its largest count as zero.

    Nearly parallel updates of different size ask for contradictory projections; the tolerance decides from which
    angle on they are answered with a compromise instead of a large difference of the two.
    """

    tolerance: float = Field(default=1e-3, ge=SVD_TOLERANCE, lt=1)


@method(
    "projection",
    summary="The sum whose projection on every update is that update's whole length: data-free choice of scale.",
    paper="Least squares on the Gram matrix; see docs/methods/projection.md.",
    options=ProjectionOptions,
)
def projection(deltas: Sequence[LowRank], *, weights: Sequence[float], options: ProjectionOptions) -> Merged:
    """ΔW = Σⱼ cⱼ ΔWⱼ with ⟨ΔW, ΔWᵢ⟩ = wᵢ ‖ΔWᵢ‖² for all i.

    In unit vectors uᵢ = ΔWᵢ/‖ΔWᵢ‖ with cosines K = (⟨uᵢ, uⱼ⟩), it is ΔW = Σ xᵢ uᵢ with K x = (wᵢ ‖ΔWᵢ‖), solved by
    the pseudo-inverse. For orthogonal updates that is their sum, for N identical ones (at weight 1) their average,
    and between the two it interpolates: what the updates share is counted once.

    Cost: O(N² (d_out + d_in) r²). Result: rank Σ rᵢ.

    Notes: ``kept_projection``, the least of ⟨ΔW, ΔWᵢ⟩ / (wᵢ ‖ΔWᵢ‖²); it is 1 unless updates contradict one another.
    """
    products = gram(deltas)
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


@method(
    "model-stock",
    summary="The average, shrunk by how much the updates disagree in direction.",
    paper="Model Stock, arXiv 2403.19522, equation 4.",
)
def model_stock(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> Merged:
    """ΔW = t · Σ wᵢ ΔWᵢ / Σ wᵢ with t = N c / (1 + (N - 1) c), c the mean of the pairwise cosines.

    The paper has one angle between two fine-tuned models and leaves N > 2 open; the mean of the cosines is what
    mergekit takes. A negative mean would make t negative or larger than 1 (N = 3, c = -0.6 gives 9), away from the
    interpolation that t stands for, so c is taken as at least 0. Zero updates are left out.

    Cost: O(N² (d_out + d_in) r²). Result: rank Σ rᵢ.

    Notes: ``mean_cosine`` (before the bound) and ``interpolation``, t.
    """
    products = gram(deltas)
    norms = products.diagonal().sqrt()
    present = [index for index in range(len(deltas)) if norms[index] > 0]
    if not present:
        return Merged(LowRank.zero(deltas[0].shape))
    count = len(present)
    cosine = 1.0
    if count > 1:
        cosines = products[present][:, present] / (norms[present][:, None] * norms[present])
        cosine = float(torch.triu(cosines, diagonal=1).sum()) / (count * (count - 1) / 2)
    bounded = min(max(cosine, 0.0), 1.0)
    t = count * bounded / (1 + (count - 1) * bounded)
    mean = concat([deltas[index] for index in present], shares([weights[index] for index in present]))
    return Merged(mean.scaled(t), {"mean_cosine": cosine, "interpolation": t})
