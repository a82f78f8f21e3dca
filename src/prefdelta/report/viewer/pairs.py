"""The preference pairs of a run: what was trained on, held out or dropped, and the margins that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from prefdelta.core.jsonl import read_objects
from prefdelta.core.records import Pair, read_rows, row_from
from prefdelta.core.store import Store
from prefdelta.evaluation.score_table import PAIR_MARGIN
from prefdelta.recipe import Recipe
from prefdelta.report.viewer.view import DomainView, PairSet

_TRAINED, _HELD_OUT, _DROPPED, _COUNTS = "pairs.jsonl", "held_out.jsonl", "dropped.jsonl", "counts.json"


def collect_pairs(store: Store, recipe: Recipe, domains: Sequence[DomainView]) -> list[PairSet]:
    """The pairs of every delta, with the margins of those that a benchmark of the run was made of.

    Raises:
        PrefdeltaError: a file is damaged.
    """
    found = []
    for domain in domains:
        settings = recipe.domains[domain.name]
        for delta in settings.deltas:
            artifact = store.get(f"{domain.name}/pairs/{delta.name}")
            if artifact is None:
                continue
            tasks = {
                benchmark.name
                for benchmark in settings.benchmarks
                if benchmark.pairs is not None and benchmark.pairs.held_out == delta.name
            }
            pairs = read_pairs(artifact.path)
            counts = artifact.json(_COUNTS)
            margins = _margins(domain, tasks)
            found.append(
                PairSet(
                    name=f"{domain.name}/{delta.name}",
                    counts={"asked": counts["items"], **_lost(counts["dropped"])},
                    pairs=pairs,
                    margins={
                        model: [by_pair.get(pair.id) if what == "held out" else None for what, pair in pairs]
                        for model, by_pair in margins.items()
                    },
                )
            )
    return found


def _lost(dropped: Mapping[str, int]) -> dict[str, int]:
    """Those that are not there any more: what is held out can be seen."""
    return {reason: count for reason, count in dropped.items() if count and reason != "held_out"}


def read_pairs(folder: Path) -> list[tuple[str, Pair]]:
    """The pairs in a folder of ``prefdelta pair`` or of a run, each with what became of it."""
    pairs = [("trained on", pair) for pair in read_rows(folder / _TRAINED, Pair)]
    if (folder / _HELD_OUT).is_file():
        pairs += [("held out", pair) for pair in read_rows(folder / _HELD_OUT, Pair)]
    if (folder / _DROPPED).is_file():
        pairs += [(row["reason"], row_from(row["pair"], Pair)) for _, row in read_objects(folder / _DROPPED)]
    return pairs


def _margins(domain: DomainView, tasks: set[str]) -> dict[str, dict[str, float]]:
    """Model -> pair id -> mean margin over training seeds on these tasks; the base has none by definition."""
    places = [place for place, (task, _) in enumerate(domain.items) if task in tasks]
    found: dict[str, dict[str, float]] = {}
    for column, model in enumerate(domain.models):
        if model.minor or column == domain.base:
            continue
        by_pair: dict[str, list[float]] = {}
        for of_seed in domain.answers:
            rows = of_seed[column]
            for record in [rows[place] for place in places] if rows is not None else []:
                if record.scorer == PAIR_MARGIN:
                    by_pair.setdefault(record.item, []).append(record.extra["margin"])
        if by_pair:
            found[model.name] = {item: mean(values) for item, values in by_pair.items()}
    return found
