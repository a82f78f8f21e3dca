"""The unit that chooses: the scale of every variant, the merge of a domain, and what labels would have chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from prefdelta.core.files import write_json
from prefdelta.core.store import Artifact
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.validation import Validated
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.merging.tuning.choice import Selection, select
from prefdelta.merging.tuning.objectives import UNITS
from prefdelta.recipe import By

SELECTION = "selection.json"


@dataclass(frozen=True)
class Selected:
    """What was chosen in one domain.

    Attributes:
        groups: the choice among ``merges``, ``singles``, ``baselines`` and ``controls``, where there are any.
        labelled: what labels would have chosen among the merges, at the scales that were tried; ``None`` where labels
            chose, or were not read.
        by_seed: variant -> λ -> training seed -> score, of the measure that chose.
        unparsed: variant -> λ -> the share of its answers in which none was found.
    """

    groups: Mapping[str, Selection]
    labelled: Selection | None = None
    by_seed: Mapping[str, Mapping[float, Mapping[int, float]]] = field(default_factory=dict)
    unparsed: Mapping[str, Mapping[float, float]] = field(default_factory=dict)

    @property
    def merge(self) -> tuple[str, float]:
        """The chosen merge and its scale."""
        merges = self.groups["merges"]
        return merges.best, merges.scale[merges.best]

    @property
    def labelled_merge(self) -> tuple[str, float] | None:
        """The merge and scale that labels would have chosen, where they did not choose."""
        return (self.labelled.best, self.labelled.scale[self.labelled.best]) if self.labelled else None

    def tested(self, variant: str) -> list[float]:
        """λ at which a variant is tested: 1, the chosen one, and the one that labels would have chosen of all."""
        chosen = {group.scale[variant] for group in self.groups.values() if variant in group.scale}
        by_labels = {self.labelled_merge[1]} if self.labelled_merge and self.labelled_merge[0] == variant else set()
        return sorted({1.0, *chosen, *by_labels})


_SELECTED = TypeAdapter(Selected)


def selection(domain: DomainContext) -> Unit:
    """What was measured of all variants -> ``selection.json``."""
    groups: dict[str, list[str]] = {
        "merges": domain.methods,
        "singles": domain.deltas,
        "baselines": list(domain.recipe.baselines),
        "controls": [domain.control_variants(control)[-1] for control in domain.controls],
    }
    variants = [name for names in groups.values() for name in names]

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        found = {name: Validated.read(inputs[name]) for name in variants}
        merges = {name: found[name] for name in groups["merges"]}
        beside = domain.by != "labels" and all(each.scores("labels") for each in merges.values())
        selected = Selected(
            groups={
                group: _select({name: found[name] for name in names}, found[names[0]].by)
                for group, names in groups.items()
                if names
            },
            labelled=_select(merges, "labels") if beside else None,
            by_seed={name: each.scores(each.by) for name, each in found.items()},
            unparsed={name: each.unparsed() for name, each in found.items()},
        )
        write_json(work / SELECTION, _SELECTED.dump_python(selected, mode="json"))

    return Unit(
        domain.path("selection"),
        "selection",
        config={"groups": groups},
        inputs={name: domain.path(f"validation/{name}") for name in variants},
        make=make,
    )


def selected(artifact: Artifact) -> Selected:
    """Read what :func:`selection` wrote."""
    return _SELECTED.validate_python(artifact.json(SELECTION))


def _select(variants: Mapping[str, Validated], by: By) -> Selection:
    scores = {
        (name, scale): list(seeds.values())
        for name, each in variants.items()
        for scale, seeds in each.scores(by).items()
    }
    items = {(name, scale): values for name, each in variants.items() for scale, values in each.by_item(by).items()}
    return select(scores, items, by=by, unit=UNITS[by])
