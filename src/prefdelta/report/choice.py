"""How scale and method of a merge were chosen, in sentences and as the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

from prefdelta.evaluation.results import Domain, DomainSelection
from prefdelta.recipe import By

_WAYS: dict[By, str] = {
    "labels": "Scale and method of the merge were chosen by labels: by scores on validation items, never on test ones.",
    "agreement": "Scale and method of the merge were chosen without labels: by how far two sampled answers to each "
    "validation question agree; no labelled validation item was used for it.",
    "pairs": "Scale and method of the merge were chosen by the loss on preference pairs of the deltas; nothing was "
    "generated, and no labelled validation item was used for it.",
}


@dataclass(frozen=True)
class ScaleRow:
    """One merge: its chosen λ, which neighbours are level with it, what the signal says there, and what labels say."""

    name: str
    scale: float
    level: str
    signal: float
    unparsed: float | None
    by_labels: float | None


def choice_sentences(domain: Domain) -> list[str]:
    """How the merge of a domain was chosen, how sure that is, and what labels would have chosen."""
    selection, found = domain.selection, [_WAYS[domain.selection.by]]
    best, scale = selection.best_merge, selection.best_scale[selection.best_merge]
    if best in selection.flat:
        found.append(
            f"Cannot tell: no scale of {best} can be told from λ = {scale:g} by these items; give more of them."
        )
    elif best in selection.ranges and (level := _level(selection, best)):
        found.append(f"λ from {level} cannot be told from λ = {scale:g} by these items.")
    if best in selection.at_edge:
        found.append(f"λ = {scale:g} is the edge of what was tried, so the best λ was not found: it may lie beyond.")
    if selection.ties:
        found.append(f"Nor can {', '.join(selection.ties)} be told from {best}, each at its own best λ.")
    return found + _beside(domain) + _guarded(domain)


def scale_rows(selection: DomainSelection) -> list[ScaleRow]:
    """The merges as a table has them."""
    return [
        ScaleRow(
            name=name,
            scale=scale,
            level=_level(selection, name),
            signal=selection.scores[name][f"{scale:g}"],
            unparsed=selection.unparsed[name].get(f"{scale:g}") if selection.unparsed else None,
            by_labels=selection.labelled.best_scale[name] if selection.labelled else None,
        )
        for name, scale in selection.best_scale.items()
    ]


def _level(selection: DomainSelection, name: str) -> str:
    """The neighbouring λ that are level with the chosen one: "4 to 8"; empty where none is."""
    low, high = selection.ranges.get(name, (0.0, 0.0))
    return "" if low == high else f"{low:g} to {high:g}"


def _beside(domain: Domain) -> list[str]:
    summary, found = domain.summary, []
    other, difference = summary.labelled_merge, summary.over_labelled_merge
    if other is not None and difference is None:
        found.append("Labels would have chosen the same.")
    elif other is not None and difference is not None:
        at = "" if other.scale is None else f" at λ = {other.scale:g}"
        found.append(
            f"Labels would have chosen {other.name}{at}, which scores {other.score:.1f} on test items: the choice "
            f"without labels differs from it by {difference.text} points."
        )
    singles = domain.selection.singles
    if domain.selection.by != "labels" and singles is not None and singles.by == "labels":
        found.append("Single deltas got their best λ by labels, so that no margin over them is flattered.")
    return found


def _guarded(domain: Domain) -> list[str]:
    guard = domain.selection.guard
    if guard is None:
        return []
    told = f"On the student's own answers the merge is {guard.kl:.2g} nats a token away from the student "
    told += f"(limit {guard.kl_limit:g}); no answer was found in {guard.unparsed:.1f} % of its test answers, and in "
    return [
        told + f"{guard.unparsed_base:.1f} % of the student's.",
        *(f"Warning: {text}" for text in guard.warnings),
    ]
