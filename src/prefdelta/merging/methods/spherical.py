"""Means on the sphere: the direction of a merge along great circles, its length from the updates' lengths.

All work on the inner products of the updates; the updates are vectors, the whole module flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.linalg.stack import Stack
from prefdelta.merging.methods.average import shares
from prefdelta.merging.methods.options import KarcherOptions, NuslerpOptions
from prefdelta.merging.registry import Merged, Options, implements

_PARALLEL = 1e-8  # below this sine the great circle between two directions is not determined


@implements("slerp")
def slerp(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> Merged:
    """ΔW = (sin((1-t)θ) ΔW₁ + sin(tθ) ΔW₂) / sin θ, θ the angle between the two, t = w₂ / (w₁ + w₂).

    (Anti)parallel updates, where sin θ = 0, are interpolated linearly, and so is anything with a zero update.

    On dense matrices::

        def slerp(deltas, weights):
            (x, y), t = deltas, weights[1] / sum(weights)
            angle = torch.arccos(((x * y).sum() / (x.norm() * y.norm())).clamp(-1, 1))
            if not torch.sin(angle) > 1e-8:  # parallel, or one of them zero
                return (1 - t) * x + t * y
            return (torch.sin((1 - t) * angle) * x + torch.sin(t * angle) * y) / torch.sin(angle)

    Cost: O((d_out + d_in) r²). Result: rank r₁ + r₂.

    Raises:
        PrefdeltaError: there are not two updates, or the weights have no positive sum.
    """
    return _great_circle(deltas, weights, "matrix")


@implements("nuslerp")
def nuslerp(deltas: Sequence[LowRank], *, weights: Sequence[float], options: NuslerpOptions) -> Merged:
    """As :data:`slerp`; with ``per`` row, row j is (sin((1-t)θⱼ) ΔW₁[j] + sin(tθⱼ) ΔW₂[j]) / sin θⱼ.

    Row j's lengths and angle come from Bᵢ[j] (AᵢAₖᵀ) Bₖ[j]ᵀ, and its factors go into the rows of B, so the result
    stays factored.

    On dense matrices::

        def nuslerp(deltas, weights, per):
            if per == "column":
                return nuslerp([delta.T for delta in deltas], weights, "row").T
            if per == "row":
                return torch.cat([slerp(rows, weights) for rows in zip(*(delta.split(1) for delta in deltas))])
            return slerp(deltas, weights)

    Cost: O((d_out + d_in) r²). Result: rank r₁ + r₂.

    Raises:
        PrefdeltaError: there are not two updates, or the weights have no positive sum.
    """
    return _great_circle(deltas, weights, options.per)


def _great_circle(
    deltas: Sequence[LowRank], weights: Sequence[float], per: Literal["matrix", "row", "column"]
) -> Merged:
    share = shares(weights)
    if per == "column":
        return Merged(_great_circle([delta.T for delta in deltas], weights, "row").delta.T)
    if per == "matrix":
        products = Stack.of(deltas).gram()
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


@implements("multislerp")
def multislerp(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options) -> Merged:
    """ΔW = (Σ sᵢ ‖ΔWᵢ‖) · m/‖m‖ with m = Σ sᵢ ΔWᵢ/‖ΔWᵢ‖ and sᵢ = wᵢ / Σ w.

    mergekit adds a step in the tangent space at m that projects the unit vectors and averages them with the same
    weights; that average is zero by the choice of m, so the step changes nothing and is not made here. Zero updates
    are left out.

    On dense matrices::

        def multislerp(deltas, weights):
            deltas, weights = zip(*((delta, w) for delta, w in zip(deltas, weights) if delta.norm() > 0))
            shares = [w / sum(weights) for w in weights]
            mean = sum(s * delta / delta.norm() for s, delta in zip(shares, deltas))
            return sum(s * delta.norm() for s, delta in zip(shares, deltas)) * mean / mean.norm()

    Cost: O(N² (d_out + d_in) r²). Result: rank Σ rᵢ.

    Raises:
        PrefdeltaError: the directions cancel, or the weights have no positive sum.
    """
    present, cosines, norms, share = directions(deltas, weights)
    if not present:
        return Merged(LowRank.zero(deltas[0].shape))
    return _on_sphere(present, norms, _normalised(share, cosines), share)


@implements("karcher")
def karcher(deltas: Sequence[LowRank], *, weights: Sequence[float], options: KarcherOptions) -> Merged:
    """ΔW = (Σ sᵢ ‖ΔWᵢ‖) · u, u the point of the sphere with the least Σ sᵢ angle(u, uᵢ)², uᵢ = ΔWᵢ/‖ΔWᵢ‖.

    Fixed-point iteration from the mean direction: u ← exp_u(Σ sᵢ log_u uᵢ). u stays a combination of the uᵢ, so each
    step costs O(N²). Zero updates are left out.

    On dense matrices::

        def karcher(deltas, weights, tolerance, steps):
            deltas, weights = zip(*((delta, w) for delta, w in zip(deltas, weights) if delta.norm() > 0))
            shares = [w / sum(weights) for w in weights]
            mean = sum(s * delta / delta.norm() for s, delta in zip(shares, deltas))
            point = mean / mean.norm()
            for _ in range(steps):
                step = 0
                for s, delta in zip(shares, deltas):
                    cosine = (point * delta).sum() / delta.norm()
                    angle = torch.arccos(cosine.clamp(-1, 1))
                    step = step + s / torch.sinc(angle / torch.pi) * (delta / delta.norm() - cosine * point)  # log
                if step.norm() < tolerance:
                    break
                point = torch.cos(step.norm()) * point + torch.sin(step.norm()) * step / step.norm()  # exp
            return sum(s * delta.norm() for s, delta in zip(shares, deltas)) * point

    Cost: O(N² (d_out + d_in) r²) and O(N²) a step. Result: rank Σ rᵢ.

    Notes: ``steps`` taken.

    Raises:
        PrefdeltaError: the directions cancel, or the weights have no positive sum.
    """
    present, cosines, norms, share = directions(deltas, weights)
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


def directions(deltas: Sequence[LowRank], weights: Sequence[float]) -> tuple[list[LowRank], Tensor, Tensor, Tensor]:
    """The updates that are not zero, the cosines between them, their norms, their shares of the weight."""
    products = Stack.of(deltas).gram()
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
