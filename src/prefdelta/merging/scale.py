"""How large a merged update should be: a number, or a rule that reads the size off the inputs.

At one and the same λ, comparing methods compares the norms that they happen to leave; these rules put any method's
direction at a size that means something.

A number is any finite one: 0 makes an update that changes nothing, a negative one subtracts what was learned (task
arithmetic's negation, arXiv 2212.04089). Where λ is chosen by a score, only numbers above 0 are tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from prefdelta.core.errors import PrefdeltaError, did_you_mean

Rule = Literal["norm-matched", "projection"]
Scale = float | Rule

RULES: tuple[Rule, ...] = get_args(Rule)

Calibration = Literal["agreement", "pairs"]
"""Ways to have a base model choose the scale without labels; see :func:`prefdelta.merging.merge`."""

Stored = Literal["stored"]
"""One λ from what the adapters' trainings measured; see :func:`prefdelta.merging.stored.stored_scale`."""


def check_scale(scale: Scale) -> None:
    """Refuse a scale that is no finite number and no rule.

    Raises:
        PrefdeltaError: it is neither.
    """
    if isinstance(scale, str):
        if scale not in RULES:
            raise PrefdeltaError(f"unknown scale {scale!r}; give a number, or {did_you_mean(scale, RULES)}")
    elif not math.isfinite(scale):
        raise PrefdeltaError(f"the scale must be a finite number, not {scale}.")


def factor_for(
    scale: Scale,
    *,
    norm: float,
    inner: Sequence[float],
    norms: Sequence[float],
    weights: Sequence[float],
) -> float:
    """The factor on one module's merged update M.

    - a number λ: λ.
    - ``norm-matched``: Σ |wᵢ| ‖ΔWᵢ‖ / Σ |wᵢ| / ‖M‖; M gets the mean norm of the updates.
    - ``projection``: the c with the least Σ |wᵢ| (c pᵢ - tᵢ)², where pᵢ = ⟨M, ΔWᵢ⟩/‖ΔWᵢ‖ is M's component along
      update i and tᵢ = sgn(wᵢ) ‖ΔWᵢ‖ that update's whole length: c = Σ |wᵢ| pᵢ tᵢ / Σ |wᵢ| pᵢ². It is data-free.
      The average gets c = N for orthogonal updates of one length (which makes it their sum) and c = 1 for equal
      ones. Where M points away from the updates as a whole (c ≤ 0), no scale keeps them, and the factor is 1.

    Updates that are zero, or that lack the module, do not count. A zero M keeps factor 1.

    Args:
        scale: the number or the rule.
        norm: ‖M‖.
        inner: ⟨M, ΔWᵢ⟩.
        norms: ‖ΔWᵢ‖.
        weights: wᵢ.
    """
    if not isinstance(scale, str):
        return scale
    present = [
        (abs(weight), math.copysign(1.0, weight) * size, product / size)
        for weight, size, product in zip(weights, norms, inner, strict=True)
        if size and weight
    ]
    if not present or not norm:
        return 1.0
    if scale == "norm-matched":
        return sum(weight * abs(length) for weight, length, _ in present) / sum(part[0] for part in present) / norm
    wanted = sum(weight * length * component for weight, length, component in present)
    held = sum(weight * component**2 for weight, _, component in present)
    return wanted / held if wanted > 0 else 1.0
