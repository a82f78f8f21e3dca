"""The methods that are a space to combine in times a rule to combine by: ``ties``, ``knots-ties``, ``core-dare``, …

The plain sum and mean need no space: they commute with every change of coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from pydantic import create_model

from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.registry import Merged, Method, Options, method
from prefdelta.merging.rules import RULES, Context, Rule, Stream
from prefdelta.merging.spaces import SPACES, Space
from prefdelta.merging.spaces.full import FULL
from prefdelta.merging.stack import Stack

_JOINED = 1 << 20  # entries: 4 MiB; what is done with a result costs time for every block of it


def combine(
    space: Space, rule: Rule, deltas: Sequence[LowRank], weights: Sequence[float], options: Options, module: str
) -> Merged:
    """Enter the space, apply the rule, come back.

    Zero updates have nothing to say about any entry and are left out, and updates of weight 0 too.
    """
    deltas = Stack.of(deltas)
    if space.pairs:  # first, because norms follow from them
        deltas.multiply_pairs()
    present = _present(deltas, weights)
    if not present:
        return Merged(LowRank.zero(deltas.shape))
    # All of them stay one stack, whose cross products are known.
    entering = deltas if len(present) == len(deltas) else [deltas[index] for index in present]
    coordinates = space.enter(entering, options)
    return coordinates.back(_applied(rule, coordinates.stream, weights, present, options, module))


def dense_blocks(
    rule: Rule, deltas: Sequence[LowRank], weights: Sequence[float], options: Options, module: str
) -> RowBlocks:
    """What a rule makes of the entries of ΔW, before any approximation: blocks of rows, to add to a base weight.

    ``options`` are those of the rule, or of the method in the full space. The blocks are float32 and can be walked
    more than once; each walk computes them anew.
    """
    present = _present(Stack.of(deltas), weights)
    if not present:
        zero = Stream.products([LowRank.zero(deltas[0].shape)], torch.float32)
        return RowBlocks(deltas[0].shape, lambda: ((block.row, block.values[0]) for block in zero.walk()))
    stream = Stream.products([deltas[index] for index in present], torch.float32)
    return _applied(rule, stream, weights, present, options, module)


def _present(deltas: Stack, weights: Sequence[float]) -> list[int]:
    norms = deltas.norms()
    return [index for index, weight in enumerate(weights) if weight != 0 and norms[index] > 0]


def _applied(
    rule: Rule, stream: Stream, weights: Sequence[float], present: Sequence[int], options: Options, module: str
) -> RowBlocks:
    chosen = torch.tensor([weights[index] for index in present], dtype=torch.float64)
    apply = rule.fit(stream, chosen, options, Context(present, module))

    def walk() -> Iterator[tuple[int, torch.Tensor]]:
        rows: list[torch.Tensor] = []
        for block in stream.walk():
            rows.append(apply(block))
            end = block.row + len(rows[-1])
            if sum(part.numel() for part in rows) >= _JOINED or end == stream.shape[1]:
                joined = torch.cat(rows)
                rows.clear()
                yield end - len(joined), joined

    return RowBlocks(stream.shape[1:], walk)


def _register(space: Space, rule: Rule) -> Method:
    name = space.prefix + rule.name
    title = "".join(part.capitalize() for part in name.split("-"))
    # The common base class cannot stand before its own subclass.
    bases = tuple(base for base in (space.options, rule.options) if base is not Options)
    described = f"Options of {name}: those of its space and those of its rule."
    model = create_model(f"{title}Options", __base__=bases, __doc__=described)

    def function(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> Merged:
        return combine(space, rule, deltas, weights, options, module)

    def full(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> RowBlocks:
        return dense_blocks(rule, deltas, weights, options, module)

    function.__doc__ = f"{rule.summary}, {space.summary}; see :mod:`prefdelta.merging.combined`."
    return method(
        name,
        summary=f"{rule.summary[0].upper()}{rule.summary[1:]}, {space.summary}.",
        paper="; ".join(part for part in (rule.paper, space.paper) if part),
        options=cast(type[Options], model),
        takes_module=True,
        full=full if space is FULL else None,
    )(function)


COMBINED: dict[str, Method] = {
    found.name: found for found in (_register(space, rule) for space in SPACES for rule in RULES)
}
"""The methods registered here, by name."""
