"""Means on the sphere: the direction of a merge along great circles, its length from the updates' lengths.

All work on the inner products of the updates; the updates are vectors, the whole module flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from prefdelta.errors import PrefdeltaError
from prefdelta.lowrank import LowRank, concat
from prefdelta.merging.average import shares
from prefdelta.merging.gram import gram
from prefdelta.merging.registry import Merged, Options, method

_PARALLEL = 1e-8  # below this sine the great circle between two directions is not determined


@method(
    "slerp",
    summary="Great-circle interpolation between two updates.",
    paper="Shoemake 1985; mergekit's slerp, here on updates rather than on whole weights.",
)
def slerp(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> Merged:
    """ΔW = (sin((1-t)θ) ΔW₁ + sin(tθ) ΔW₂) / sin θ, θ the angle between the two, t = w₂ / (w₁ + w₂).

    (Anti)parallel updates, where sin θ = 0, are interpolated linearly, and so is anything with a zero update.

    Cost: O((d_out + d_in) r²). Result: rank r₁ + r₂.

    Raises:
        PrefdeltaError: there are more than two updates, or the weights have no positive sum.
    """
    return _great_circle(deltas, weights, "matrix", "slerp")


class NuslerpOptions(Options):
    """``per``: interpolate the whole ``matrix``, or each ``row`` or ``column`` of ΔW along its own great circle."""

    per: Literal["matrix", "row", "column"] = "matrix"


@method(
    "nuslerp",
    summary="Great-circle interpolation between two updates, as a whole or row by row.",
    paper="mergekit's nuslerp.",
    options=NuslerpOptions,
)
def nuslerp(deltas: Sequence[LowRank], *, weights: Sequence[float], options: NuslerpOptions) -> Merged:
    """As :data:`slerp`; with ``per`` row, row j is (sin((1-t)θⱼ) ΔW₁[j] + sin(tθⱼ) ΔW₂[j]) / sin θⱼ.

    Row j's lengths and angle come from Bᵢ[j] (AᵢAₖᵀ) Bₖ[j]ᵀ, and its factors go into the rows of B, so the result
    stays factored.

    Cost: O((d_out + d_in) r²). Result: rank r₁ + r₂.

    Raises:
        PrefdeltaError: there are more than two updates, or the weights have no positive sum.
    """
    return _great_circle(deltas, weights, options.per, "nuslerp")


def _great_circle(
    deltas: Sequence[LowRank], weights: Sequence[float], per: Literal["matrix", "row", "column"], name: str
) -> Merged:
    if len(deltas) > 2:
        raise PrefdeltaError(
            f"{name} interpolates between two adapters, not {len(deltas)}; take multislerp or karcher."
        )
    if len(deltas) == 1:
        return Merged(deltas[0])
    share = shares(weights)
    if per == "column":
        return Merged(_great_circle([delta.T for delta in deltas], weights, "row", name).delta.T)
    if per == "matrix":
        products = gram(deltas)
        first, second = _arc(products[0, 0], products[1, 1], products[0, 1], share)
        return Merged(concat(deltas, [float(first), float(second)]))
    one, two = deltas
    first, second = _arc(_row_products(one, one), _row_products(two, two), _row_products(one, two), share)
    return Merged(concat([_rows_scaled(one, first), _rows_scaled(two, second)], [1.0, 1.0]))


def _arc(square1: Tensor, square2: Tensor, product: Tensor, share: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Coefficients of the two vectors on the great circle between them; linear ones where there is none."""
    length = (square1.clamp(min=0) * square2.clamp(min=0)).sqrt()
    cosine = torch.where(length > 0, product / length.clamp(min=torch.finfo(length.dtype).tiny), 1.0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    curved = sine > _PARALLEL
    safe = torch.where(curved, sine, 1.0)
    coefficients = [torch.where(curved, torch.sin(part * angle) / safe, part) for part in share]
    return coefficients[0], coefficients[1]


def _row_products(left: LowRank, right: LowRank) -> Tensor:
    """⟨ΔW[j], ΔW'[j]⟩ for every row j, ``(d_out,)``."""
    return ((left.B @ (left.A @ right.A.T)) * right.B).sum(dim=1)


def _rows_scaled(delta: LowRank, factors: Tensor) -> LowRank:
    return LowRank(delta.B * factors[:, None], delta.A)


@method(
    "multislerp",
    summary="The mean direction of the updates, at their mean length.",
    paper="mergekit's multislerp.",
)
def multislerp(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> Merged:
    """ΔW = (Σ sᵢ ‖ΔWᵢ‖) · m/‖m‖ with m = Σ sᵢ ΔWᵢ/‖ΔWᵢ‖ and sᵢ = wᵢ / Σ w.

    mergekit adds a step in the tangent space at m that projects the unit vectors and averages them with the same
    weights; that average is zero by the choice of m, so the step changes nothing and is not made here. Zero updates
    are left out.

    Cost: O(N² (d_out + d_in) r²). Result: rank Σ rᵢ.

    Raises:
        PrefdeltaError: the directions cancel, or the weights have no positive sum.
    """
    present, cosines, norms, share = _directions(deltas, weights)
    if not present:
        return Merged(LowRank.zero(deltas[0].shape))
    return _on_sphere(present, norms, _normalised(share, cosines), share)


class KarcherOptions(Options):
    """The iteration ends when a step is shorter than ``tolerance`` radians, or after ``steps`` of them."""

    tolerance: float = Field(default=1e-10, gt=0)
    steps: int = Field(default=200, gt=0)


@method(
    "karcher",
    summary="The Karcher (Riemannian) mean of the updates' directions, at their mean length.",
    paper="Karcher 1977; mergekit's karcher.",
    options=KarcherOptions,
)
def karcher(deltas: Sequence[LowRank], *, weights: Sequence[float], options: KarcherOptions) -> Merged:
    """ΔW = (Σ sᵢ ‖ΔWᵢ‖) · u, u the point of the sphere with the least Σ sᵢ angle(u, uᵢ)², uᵢ = ΔWᵢ/‖ΔWᵢ‖.

    Fixed-point iteration from the mean direction: u ← exp_u(Σ sᵢ log_u uᵢ). u stays a combination of the uᵢ, so each
    step costs O(N²). Zero updates are left out.

    Cost: O(N² (d_out + d_in) r²) and O(N²) a step. Result: rank Σ rᵢ.

    Notes: ``steps`` taken.

    Raises:
        PrefdeltaError: the directions cancel, or the weights have no positive sum.
    """
    present, cosines, norms, share = _directions(deltas, weights)
    if not present:
        return Merged(LowRank.zero(deltas[0].shape))
    point = _normalised(share, cosines)
    taken = 0
    for _ in range(options.steps):
        dots = (cosines @ point).clamp(-1, 1)
        angles = torch.arccos(dots)
        sines = torch.sin(angles)
        stretch = torch.where(sines > _PARALLEL, angles / sines.clamp(min=_PARALLEL), 1.0)
        # log_u uᵢ = (θᵢ / sin θᵢ) (uᵢ - cos θᵢ u), written in coefficients of the uᵢ.
        step = share * stretch - (share * stretch * dots).sum() * point
        length = float((step @ cosines @ step).clamp(min=0).sqrt())
        if length < options.tolerance:
            break
        taken += 1
        moved = torch.cos(torch.tensor(length)) * point + torch.sin(torch.tensor(length)) / length * step
        point = _normalised(moved, cosines)
    merged = _on_sphere(present, norms, point, share)
    return Merged(merged.delta, {"steps": float(taken)})


def _directions(deltas: Sequence[LowRank], weights: Sequence[float]) -> tuple[list[LowRank], Tensor, Tensor, Tensor]:
    """The updates that are not zero, the cosines between them, their norms, their shares of the weight."""
    products = gram(deltas)
    norms = products.diagonal().sqrt()
    present = [index for index in range(len(deltas)) if norms[index] > 0]
    share = shares([weights[index] for index in present]) if present else []
    length = norms[present]
    cosines = products[present][:, present] / (length[:, None] * length)
    return [deltas[index] for index in present], cosines, length, torch.tensor(share, dtype=torch.float64)


def _normalised(coefficients: Tensor, cosines: Tensor) -> Tensor:
    length = float((coefficients @ cosines @ coefficients).clamp(min=0).sqrt())
    if length <= _PARALLEL:
        raise PrefdeltaError("the directions of the updates cancel at these weights, so they have no mean direction.")
    return coefficients / length


def _on_sphere(deltas: Sequence[LowRank], norms: Tensor, point: Tensor, share: Tensor) -> Merged:
    length = (share * norms).sum()
    return Merged(concat(deltas, (length * point / norms).tolist()))
