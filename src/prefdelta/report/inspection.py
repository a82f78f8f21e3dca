"""The inspection page: self-contained HTML, equal bytes for equal input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prefdelta.merging.inspection.results import InspectedPair, Inspection
from prefdelta.report.heatmap import STYLE, draw_legend, draw_map
from prefdelta.report.page import environment

MOST_PAIRS = 15
"""Pairs that get maps of their own; the closest ones, where there are more."""


def render(inspection: Inspection) -> str:
    """The page as text. It makes no request: styles and pictures are inside."""
    names = [entry.name for entry in inspection.adapters]
    return (
        environment()
        .get_template("inspection.html.j2")
        .render(
            inspection=inspection,
            names=names,
            headline=_headline(inspection),
            sections=list(_sections(inspection, names)),
            hidden_pairs=max(len(inspection.pairs) - MOST_PAIRS, 0),
            legend=draw_legend(),
            style=STYLE,
            previews=[entry for entry in inspection.methods if entry.refusal is None],
            refused=[entry for entry in inspection.methods if entry.refusal is not None],
        )
    )


_Section = tuple[str, str, list[tuple[str, str]]]
"""A row of maps of one quantity: its name, what it is, and each map with its caption."""


def _sections(inspection: Inspection, names: Sequence[str]) -> Iterator[_Section]:
    modules = [entry.module for entry in inspection.modules]
    largest = max((norm for entry in inspection.modules for norm in entry.norms if norm), default=1.0)
    sizes = [[_share(entry.norms[index], largest) for entry in inspection.modules] for index in range(len(names))]
    yield (
        "Size",
        "‖ΔW‖ of each module as a share of the largest one of all adapters. A dashed cell is not adapted.",
        [(name, draw_map(modules, values, name)) for name, values in zip(names, sizes, strict=True)],
    )
    shown = sorted(sorted(inspection.pairs, key=lambda pair: -abs(pair.cosine))[:MOST_PAIRS], key=_ends)
    by_pair: dict[tuple[int, int], dict[str, InspectedPair]] = {_ends(pair): {} for pair in inspection.pairs}
    for entry in inspection.module_pairs:
        for found in entry.pairs:
            by_pair[_ends(found)][entry.module] = found
    for title, words, measure in _MEASURES if shown else ():
        maps = []
        for pair in shown:
            found_in, caption = by_pair[_ends(pair)], f"{names[pair.first]} / {names[pair.second]}"
            values = [measure(found_in[module]) if module in found_in else None for module in modules]
            maps.append((caption, draw_map(modules, values, f"{title}: {caption}")))
        yield title, words, maps


def _share(norm: float | None, largest: float) -> float | None:
    return None if norm is None else norm / largest


def _ends(pair: InspectedPair) -> tuple[int, int]:
    return pair.first, pair.second


def _above_chance(overlap: float, chance: float) -> float | None:
    return (overlap - chance) / (1 - chance) if chance < 1 else None


_MEASURES: tuple[tuple[str, str, Callable[[InspectedPair], float | None]], ...] = (
    (
        "Cosine",
        "Above 0 the two updates push a module the same way; below 0 they undo one another; at 0 they add up freely.",
        lambda pair: pair.cosine,
    ),
    (
        "Shared output directions",
        "Overlap of the output subspaces beyond chance: 1 where the smaller lies in the larger, 0 for unrelated ones.",
        lambda pair: _above_chance(pair.overlap_out, pair.chance_out),
    ),
    (
        "Shared input directions",
        "The same of the input subspaces. High values everywhere mean that the adapters started from the same A.",
        lambda pair: _above_chance(pair.overlap_in, pair.chance_in),
    ),
    (
        "Excess sign conflict",
        "Share of entries of opposite sign, less what the angle between the updates makes one expect.",
        lambda pair: pair.sign.excess if pair.sign else None,
    ),
)


def _headline(inspection: Inspection) -> str:
    """The one thing to know before merging."""
    names = [entry.name for entry in inspection.adapters]
    if not inspection.pairs:
        return f"{len(names)} adapter{'s' if len(names) > 1 else ''} over {len(inspection.modules)} modules."
    closest = max(inspection.pairs, key=lambda pair: abs(pair.cosine))
    pair = f"{names[closest.first]} and {names[closest.second]}"
    if abs(closest.cosine) < 0.1:
        return f"The {len(names)} updates are nearly orthogonal: the closest, {pair}, have cosine {closest.cosine:.2f}."
    if closest.cosine < 0:
        return f"{pair} work against one another: their updates have cosine {closest.cosine:.2f}."
    return f"{pair} share most: their updates have cosine {closest.cosine:.2f}."
