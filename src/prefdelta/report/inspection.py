"""The inspection page: self-contained HTML, equal bytes for equal input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prefdelta.merging.inspection.results import InspectedPair, Inspection
from prefdelta.report.heatmap import STYLE, draw_legend, draw_map
from prefdelta.report.matrix_layout import Layout, lay_out

MOST_PAIRS = 15
"""Pairs that get maps of their own; the closest ones, where there are more."""


def render(inspection: Inspection) -> str:
    """The page as text. It makes no request: styles and pictures are inside."""
    environment = Environment(
        loader=PackageLoader("prefdelta.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = [entry.name for entry in inspection.adapters]
    return environment.get_template("inspection.html.j2").render(
        inspection=inspection,
        names=names,
        headline=_headline(inspection),
        sections=list(_sections(inspection, names)),
        hidden_pairs=max(len(inspection.pairs) - MOST_PAIRS, 0),
        legend=Markup(draw_legend()),
        style=Markup(STYLE),
        previews=[entry for entry in inspection.methods if entry.refusal is None],
        refused=[entry for entry in inspection.methods if entry.refusal is not None],
    )


@dataclass(frozen=True)
class _Section:
    """A row of maps of one quantity."""

    name: str
    words: str
    maps: Sequence[tuple[str, Markup]]


def _sections(inspection: Inspection, names: Sequence[str]) -> Iterator[_Section]:
    modules = [entry.module for entry in inspection.modules]
    layout = lay_out(modules)
    largest = max((norm for entry in inspection.modules for norm in entry.norms if norm), default=1.0)
    yield _Section(
        "Size",
        "‖ΔW‖ of each module as a share of the largest one of all adapters. A dashed cell is not adapted.",
        [
            (name, _map(layout, [_share(entry.norms[index], largest) for entry in inspection.modules], modules, name))
            for index, name in enumerate(names)
        ],
    )
    shown = sorted(sorted(inspection.pairs, key=lambda pair: -abs(pair.cosine))[:MOST_PAIRS], key=_ends)
    for title, words, measure in _MEASURES:
        maps = []
        for pair in shown:
            by_module = {
                entry.module: found
                for entry in inspection.module_pairs
                for found in entry.pairs
                if _ends(found) == _ends(pair)
            }
            values = [measure(by_module[module]) if module in by_module else None for module in modules]
            caption = f"{names[pair.first]} / {names[pair.second]}"
            maps.append((caption, _map(layout, values, modules, f"{title}: {caption}")))
        if maps:
            yield _Section(title, words, maps)


def _map(layout: Layout, values: Sequence[float | None], modules: Sequence[str], caption: str) -> Markup:
    return Markup(draw_map(layout, values, modules, caption))


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
