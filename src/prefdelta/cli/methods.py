"""``prefdelta methods``: which merge method to choose, the list, and one method in full."""

from __future__ import annotations

import inspect

from rich.console import Console
from rich.table import Column, Table

from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.type_words import type_words
from prefdelta.merging.guide import CHOOSER, MEASURED, when_to_use
from prefdelta.merging.learned.methods import LEARNED
from prefdelta.merging.methods.catalogue import COMBINED, RULES, SPACES
from prefdelta.merging.registry import METHODS, Options


def print_methods(console: Console) -> None:
    """Show which methods to try in which order, then list all."""
    first = Table("try", "when", Column("score", justify="right"), title="Which one?")
    for name, when in CHOOSER:
        first.add_row(name, when, f"{MEASURED[name]:.1f}" if name in MEASURED else "")
    console.print(first)
    console.print(
        "score: percent right, mean of eight merges of embedded models, λ chosen without labels "
        "(benchmarks/results/sharpening.md)\n"
        "how to choose λ: --scale agreement with a base and prompts, --scale norm-matched without (docs/scale.md)",
    )
    table = Table("method", "what it does", "source", title=f"All {len(METHODS)} merge methods")
    for entry in METHODS.values():
        if not _in_a_space(entry.name):
            table.add_row(entry.name, entry.summary, entry.paper)
    for space in filter(None, SPACES):
        half = SPACES[space]
        table.add_row(f"{space}RULE", f"A rule {half.summary}; see below.", half.paper)
    console.print(table)
    console.print(f"RULE: {', '.join(RULES)}; for example knots-ties")
    learned = Table("method", "what it does", "source", title="Learned merges: prefdelta learn")
    for learnt in LEARNED.values():
        learned.add_row(learnt.name, learnt.summary, learnt.paper)
    console.print(learned)
    console.print("prefdelta methods NAME: a method's equation, options and when to use it")


def _in_a_space(name: str) -> bool:
    return name in COMBINED and name not in RULES


def method_text(name: str) -> str:
    """One method: when to use it, its equation as dense code, its options.

    Raises:
        PrefdeltaError: there is no such method; the message names the nearest.
    """
    if name not in METHODS and name not in LEARNED:
        raise PrefdeltaError(f"there is no merge method {name!r}; {did_you_mean(name, [*METHODS, *LEARNED])}")
    return "\n\n".join(_learned(name) if name in LEARNED else _method(name))


def _method(name: str) -> list[str]:
    found = METHODS[name]
    parts = [f"{found.name}: {found.summary}", f"Source: {found.paper}"]
    when = when_to_use(name)
    if when:
        parts.append(f"When. {when}")
    parts.append(inspect.getdoc(found.implementation.function) or "")
    parts += _options(found.options, "")
    least, most = found.adapters
    if most is not None:
        parts.append(f"Takes {least if least == most else f'{least} to {most}'} adapters.")
    return [part for part in parts if part]


def _options(model: type[Options], prefix: str) -> list[str]:
    lines = "\n".join(f"  --set {prefix}{line}" for line in option_lines(model))
    return [f"Options. {inspect.getdoc(model)}", lines] if lines else []


def option_lines(model: type[Options]) -> list[str]:
    """``option=default  (type)`` of every option."""
    lines = []
    for option, field in model.model_fields.items():
        kind = type_words(field.annotation, field.metadata).replace("`", "")
        given = "VALUE" if field.is_required() else "none" if field.default is None else field.default
        lines.append(f"{option}={given}  ({kind})")
    return lines


def _learned(name: str) -> list[str]:
    found = LEARNED[name]
    return [
        f"{found.name}: {found.summary}",
        f"Source: {found.paper}",
        "When. There are held-out pairs (or answers, or prompts) to learn the coefficients on.",
        inspect.getdoc(found.function) or "",
        *_options(found.options, f"{name}."),
        f"Run it: prefdelta learn ADAPTERS --method {name} --base BASE --pairs PAIRS -o OUT",
    ]
