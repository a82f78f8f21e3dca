"""A scale for a merge of adapters alone, from what their trainings measured: ``--scale stored``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prefdelta.adapters import Adapter
from prefdelta.adapters.trained import TRAINING, OwnScale, read_own_scale
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.threads import one_thread
from prefdelta.merging.engine import merged_modules, stored_dtype
from prefdelta.merging.inputs import prepare
from prefdelta.merging.registry import Options
from prefdelta.merging.report import MergeReport
from prefdelta.merging.statistics import MergeStatistics


def own_scales(adapters: Sequence[Adapter]) -> list[OwnScale]:
    """What each adapter's training found of its own scale.

    Raises:
        PrefdeltaError: an adapter has none, or one of 0.
    """
    found = []
    for adapter in adapters:
        own = read_own_scale(adapter.path)
        if own is None:
            raise PrefdeltaError(
                f"{adapter.path} has no own scale: --scale stored reads it from {TRAINING}, where a training with "
                "held-out pairs writes it (train --held-out FILE, or a recipe's held_out); choose --scale "
                "norm-matched, or agreement with --base and --prompts."
            )
        if own.scale == 0:
            raise PrefdeltaError(
                f"{adapter.path} does not prefer its held-out pairs (mean margin {own.margin:.2g}), so it has "
                "no scale of its own; leave it out, or choose another --scale."
            )
        found.append(own)
    return found


def unscaled(
    adapters: Sequence[Adapter],
    *,
    method: str,
    weights: Sequence[float] | None = None,
    options: Mapping[str, Any] | Options | None = None,
    extra_weights: Literal["refuse", "drop"] = "refuse",
) -> MergeReport:
    """The report of a merge at λ = 1, whose modules are made one after another and not kept."""
    inputs = prepare(
        adapters, None, method=method, options=options, weights=weights, scale=1.0, extra_weights=extra_weights
    )
    statistics = MergeStatistics(inputs)
    dtype = stored_dtype(None, inputs.adapters)
    with one_thread():
        for _ in merged_modules(inputs, statistics, dtype=dtype, compare=True):
            pass
    return statistics.report(str(dtype).removeprefix("torch."))


def stored_scale(
    adapters: Sequence[Adapter],
    *,
    method: str,
    weights: Sequence[float] | None = None,
    options: Mapping[str, Any] | Options | None = None,
    extra_weights: Literal["refuse", "drop"] = "refuse",
) -> float:
    """One λ for a merge of adapters from their own scales, see :func:`global_scale`.

    The merge is made once more than it is written, a module at a time.

    Raises:
        PrefdeltaError: an adapter has no own scale, or what every merge may raise.
    """
    own = own_scales(adapters)
    report = unscaled(adapters, method=method, weights=weights, options=options, extra_weights=extra_weights)
    return global_scale([each.scale for each in own], report)


def global_scale(own: Sequence[float], report: MergeReport) -> float:
    r"""One λ for a merge M of N adapters from their own scales λᵢ above 0; three significant digits.

        λ ‖M‖ = c ‖A‖,   c = minᵢ λᵢ · Σᵢ‖ΔWᵢ‖² / (N ‖A‖²) = minᵢ λᵢ · N / (1 + (N − 1) ρ)

    with A the plain average and ρ the mean cosine of the updates, weighed by their norms. The second factor goes as far
    along the adapters as each goes by itself, on the whole: N for unlike adapters, 1 for equal ones. The first is the
    own scale of the one that went furthest, so that none is driven beyond its own. A merge by another method gets the
    length of the average's. One adapter gets its own scale. Norms are those of all modules together; weights weigh A,
    and by their size the mean of the squares.

    Args:
        own: λᵢ.
        report: of the merge at λ = 1, compared with the average.

    Source: ours. The rule was found on the merges of one training seed, and measured on others (docs/evidence.md).
    """
    shares = [abs(entry.weight) for entry in report.adapters]
    if not report.norm or not report.average_norm or not sum(shares):
        return 1.0
    squared = sum(share * entry.norm**2 for share, entry in zip(shares, report.adapters, strict=True)) / sum(shares)
    least = min(scale for share, scale in zip(shares, own, strict=True) if share)
    return float(f"{least * squared / (report.average_norm * report.norm):.3g}")
