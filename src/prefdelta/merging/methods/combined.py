"""The methods that are a space to combine in times a rule to combine by: ``ties``, ``knots-ties``, ``core-dare``, …

The plain sum and mean need no space: they commute with every change of coordinates.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import torch

from prefdelta.linalg.best_rank import RowBlocks
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.linalg.stream import Stream
from prefdelta.merging.dense_code import call, dense_code
from prefdelta.merging.methods import catalogue
from prefdelta.merging.methods.rules import RULES, Rule
from prefdelta.merging.methods.spaces import FULL, SPACES, Space
from prefdelta.merging.methods.sparsifiers import Context
from prefdelta.merging.registry import Merged, Options, implements

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


def _dense(prefix: str, rule_name: str) -> str:
    """The dense code of a rule in a space."""
    space, rule = SPACES[prefix], RULES[rule_name]
    into = dense_code(space.enter)
    code, combined = rule.dense
    options = [catalogue.SPACES[prefix].options, catalogue.RULES[rule_name].options]
    arguments = ", ".join(dict.fromkeys(field for model in options for field in model.model_fields))
    draws = "\n    uniform = torch.stack([uniform(i, *x.shape[1:]) for i in present])" if "uniform" in combined else ""
    return f"""{into}
{code}
def {(prefix + rule_name).replace("-", "_")}(deltas, weights, {arguments.replace("seed", "uniform")}):
    present = [i for i, delta in enumerate(deltas) if weights[i] != 0 and delta.any()]
    deltas, weights = [deltas[i] for i in present], torch.tensor([weights[i] for i in present]).to(deltas[0])
    x, back = {call(into)}{draws}
    return back({combined})
"""


def _implement(prefix: str, rule_name: str) -> None:
    space, rule = SPACES[prefix], RULES[rule_name]

    def function(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> Merged:
        return combine(space, rule, deltas, weights, options, module)

    def full(deltas: Sequence[LowRank], *, weights: Sequence[float], options: Options, module: str) -> RowBlocks:
        return dense_blocks(rule, deltas, weights, options, module)

    name = prefix + rule_name
    code = textwrap.indent(_dense(prefix, rule_name), "    ")
    function.__doc__ = f"{catalogue.COMBINED[name].summary}\n\nOn dense matrices::\n\n{code}"
    implements(name, takes_module=True, full=full if space is FULL else None)(function)


for _prefix in SPACES:
    for _rule_name in RULES:
        _implement(_prefix, _rule_name)
