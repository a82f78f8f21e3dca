"""The report of a merge, ``prefdelta_merge.json``, and its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefdelta.core.config import Frozen
from prefdelta.core.names import markdown, one_line, public_name


class InputAdapter(Frozen):
    """One merged adapter: its folder's own name, what it was, and how large its update is.

    ``norm`` is ‖ΔW‖_F over all its modules; ``empty_modules`` counts modules whose update is zero.
    ``kept_projection`` is ⟨result, ΔW⟩ / ‖ΔW‖²: how much of this update's own component the result holds.
    """

    name: str
    fingerprint: str
    base_model: str | None
    weight: float
    modules: int
    ranks: tuple[int, ...]
    norm: float
    kept_projection: float | None
    empty_modules: int
    dropped_tensors: tuple[str, ...]


class ModuleReport(Frozen):
    """One module of the result, compared with the plain average of the same adapters at scale 1.

    ``average_norm`` is ``None`` where that comparison was not made: it takes the products of all pairs of adapters.
    ``adapters`` are the positions of those that adapt the module. ``scale`` is the factor put on the merged update.
    ``kept_energy`` is the share of its squared norm that is left at the rank it is stored with. ``notes`` are the
    method's own numbers.
    """

    module: str
    shape: tuple[int, int]
    rank: int
    adapters: tuple[int, ...]
    norm: float
    average_norm: float | None
    norm_ratio: float | None
    cosine_to_average: float | None
    scale: float
    kept_energy: float
    notes: Mapping[str, float]


class MergeReport(Frozen):
    """The whole merge; ``model_dump_json`` gives what is stored as ``prefdelta_merge.json``.

    ``norm_ratio`` and ``cosine_to_average`` are over all modules together; ``None`` where the average is zero, or
    where the result was not compared with it (``average_norm`` is ``None`` then).
    ``smallest_cosine`` is the least principal cosine that an aligning method met.
    """

    version: str
    method: str
    options: Mapping[str, Any]
    scale: float | str
    rank: int | str | None
    dtype: str
    adapters: tuple[InputAdapter, ...]
    norm: float
    average_norm: float | None
    norm_ratio: float | None
    cosine_to_average: float | None
    smallest_cosine: float | None
    kept_energy: float
    stored_ranks: tuple[int, ...]
    warnings: tuple[str, ...]
    modules: tuple[ModuleReport, ...]


def card_front(base_model: str | None) -> tuple[list[str], str]:
    """The lines that the Hub reads of a merged adapter's card, and what the card calls the base."""
    base = public_name(base_model)
    named = [f"base_model: {json.dumps(one_line(base), ensure_ascii=False)}"] if base else []
    front = ["---", "library_name: peft", *named, "tags:", "- lora", "- merge", "---", ""]
    return front, markdown(base or "an unnamed base model")


def model_card(report: MergeReport, base_model: str | None) -> str:
    """The ``README.md`` of a merged adapter, with the metadata that the Hugging Face Hub reads."""
    front, of = card_front(base_model)
    ranks = ", ".join(str(rank) for rank in report.stored_ranks)
    rows = [
        f"| {markdown(entry.name)} | {entry.weight:g} | {entry.modules} | {entry.norm:.4g} "
        f"| {_number(entry.kept_projection)} | `{entry.fingerprint[:16]}` |"
        for entry in report.adapters
    ]
    compared = (
        f" Its norm is {report.norm_ratio:.4g} times that of the plain average, its cosine to it "
        f"{report.cosine_to_average:.4f}."
        if report.norm_ratio is not None and report.cosine_to_average is not None
        else (" The plain average of the inputs is zero." if report.average_norm == 0 else "")
    )
    lines = [
        *front,
        "# Merged LoRA adapter",
        "",
        f"{len(report.adapters)} adapters of {of}, merged by prefdelta {report.version} "
        f"with method `{one_line(report.method)}`"
        + (f" ({markdown(_options(report.options))})" if report.options else "")
        + f" at scale {report.scale if isinstance(report.scale, str) else format(report.scale, 'g')}.",
        "",
        "| adapter | weight | modules | norm of ΔW | projection kept | BLAKE3 begins |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"The result adapts {len(report.modules)} modules at rank {ranks}, stored as {report.dtype}; "
        f"‖ΔW‖ = {report.norm:.4g}.{compared}",
        *(["", "Warnings:", "", *(f"- {markdown(warning)}" for warning in report.warnings)] if report.warnings else []),
        "",
        "`prefdelta_merge.json` holds the numbers of every module.",
    ]
    return "\n".join(lines) + "\n"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in options.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, or ``None`` where ``whole`` is zero."""
    return part / whole if whole else None
