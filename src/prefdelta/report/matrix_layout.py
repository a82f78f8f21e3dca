"""Modules as a grid: one row per kind of module, one column per layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Row labels, column labels, and the (row, column) of every module in the order given."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    places: tuple[tuple[int, int], ...]


def lay_out(modules: Sequence[str]) -> Layout:
    """Read ``…layers.7.self_attn.q_proj`` as row ``self_attn.q_proj``, column 7.

    The first number in a name is its layer. Modules outside the layers stand in a column of their own.
    """
    split = [_split(module) for module in modules]
    stems = {stem for stem, layer, _ in split if layer is not None}
    # With one stack of layers its name says nothing; an encoder and a decoder must be told apart.
    rows = [kind if layer is not None and len(stems) == 1 else f"{stem}{kind}" for stem, layer, kind in split]
    layers = sorted({layer for _, layer, _ in split if layer is not None})
    columns = {layer: number for number, layer in enumerate(layers)}
    labels = list(dict.fromkeys(rows))
    outside = len(layers)
    return Layout(
        rows=tuple(labels),
        columns=(*map(str, layers), *(["–"] if any(layer is None for _, layer, _ in split) else [])),
        places=tuple(
            (labels.index(row), outside if layer is None else columns[layer])
            for row, (_, layer, _) in zip(rows, split, strict=True)
        ),
    )


def _split(module: str) -> tuple[str, int | None, str]:
    parts = module.split(".")
    for index, part in enumerate(parts):
        if part.isdecimal():
            stem = ".".join(parts[:index])
            return (f"{stem}." if stem else ""), int(part), ".".join(parts[index + 1 :])
    return "", None, module
