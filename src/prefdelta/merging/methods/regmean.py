"""RegMean: the merge whose outputs come closest to every adapter's own outputs on its own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.regular import regular
from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.merging.methods.options import RegmeanOptions
from prefdelta.merging.registry import implements


@implements("regmean", takes_module=True)
def regmean(deltas: Sequence[LowRank], *, weights: Sequence[float], options: RegmeanOptions, module: str) -> LowRank:
    """:func:`merge_on_activations` with the activations of one module read from the files in the options.

    It is the one method that reads files, because no adapter holds what it needs.

    On dense matrices::

        def regmean(deltas, weights, inputs, shrink, ridge):
            image = total = 0
            for delta, w, X in zip(deltas, weights, inputs):
                G = X.T @ X / len(X)
                diagonal = torch.diag(G.diagonal())
                G = shrink * G + (1 - shrink) * diagonal + ridge * G.diagonal().mean() * torch.eye(len(G))
                image, total = image + w * delta @ G, total + abs(w) * G
            return image @ torch.linalg.inv(total)

    Raises:
        PrefdeltaError: there is not one file for each adapter, or one lacks the module or does not fit it, or all
            weights are 0.
    """
    if not any(weights):
        raise PrefdeltaError("merge method regmean takes at least one weight that is not 0.")
    width = deltas[0].shape[1]
    inputs = [_read(path, module, width) for path in options.activations]
    return merge_on_activations(deltas, inputs, weights=weights, shrink=options.shrink, ridge=options.ridge)


def merge_on_activations(
    deltas: Sequence[LowRank],
    inputs: Sequence[Tensor],
    *,
    weights: Sequence[float],
    shrink: float = 0.9,
    ridge: float = 1e-4,
) -> LowRank:
    """ΔW = (Σ wᵢ ΔWᵢ Gᵢ) (Σ |wᵢ| Gᵢ)⁻¹, the minimiser of Σ |wᵢ| ‖(ΔW - sgn(wᵢ) ΔWᵢ) Xᵢᵀ‖² up to the shrinking.

    Gᵢ = shrink · XᵢᵀXᵢ/Tᵢ + (1 - shrink) · diag(XᵢᵀXᵢ/Tᵢ) + ridge · mean diagonal. Only A changes, Aᵢ → wᵢ Aᵢ Gᵢ G⁻¹,
    and G is a diagonal plus a matrix of rank ΣTᵢ, so that it is inverted by Woodbury's identity and never formed.

    Args:
        deltas: the updates (base weights cancel: they are the same in every model).
        inputs: Xᵢ ``(Tᵢ, d_in)``, a sample of the module's inputs for each adapter.
        weights: one per update.
        shrink: factor on the off-diagonal entries.
        ridge: added to the diagonal, relative to its mean.

    Cost: O(d_in (ΣTᵢ)² + d_in ΣTᵢ R). Result: rank Σ rᵢ.
    """
    scaled = [x.to(torch.float64) / max(len(x), 1) ** 0.5 for x in inputs]
    diagonals = [(1 - shrink) * (x**2).sum(dim=0) + ridge * _mean_square(x) for x in scaled]
    sizes = [abs(weight) for weight in weights]
    diagonal = sum((size * part for size, part in zip(sizes, diagonals, strict=True)), torch.zeros(1))
    tall = torch.cat([x * (shrink * size) ** 0.5 for size, x in zip(sizes, scaled, strict=True)])
    core = torch.eye(len(tall), dtype=torch.float64) + (tall / diagonal) @ tall.T
    factor = torch.linalg.cholesky(core)
    parts = []
    for delta, x, part, weight in zip(deltas, scaled, diagonals, weights, strict=True):
        image = weight * (shrink * (delta.A @ x.T) @ x + delta.A * part)
        over = image / diagonal
        solved = torch.cholesky_solve(tall @ over.T, factor)
        parts.append(LowRank(delta.B, over - (solved.T @ tall) / diagonal))
    return concat(parts, [1.0] * len(parts))


def _mean_square(x: Tensor) -> float:
    # An adapter without any input still needs an invertible share.
    return max(float((x**2).sum(dim=0).mean()), torch.finfo(torch.float64).tiny) if len(x) else 1.0


def _read(path: Path, module: str, width: int) -> Tensor:
    try:
        with safe_open(regular(path), framework="pt", device="cpu") as handle:
            if module not in handle.keys():  # noqa: SIM118
                raise PrefdeltaError(f"{path} holds no activations of module {module}; collect them again.")
            inputs: Tensor = handle.get_tensor(module)
    except (SafetensorError, OSError) as error:
        raise PrefdeltaError(f"cannot read the activations {path}: {error}.") from error
    if inputs.ndim != 2 or inputs.shape[1] != width:
        raise PrefdeltaError(
            f"{path}: the activations of module {module} have shape {tuple(inputs.shape)}, not (tokens, {width})."
        )
    if not bool(torch.isfinite(inputs).all()):
        raise PrefdeltaError(f"{path}: the activations of module {module} hold NaN or infinity.")
    return inputs
