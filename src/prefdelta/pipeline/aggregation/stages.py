"""What the stages of an aggregation do with their artifacts, beside those that every kind of run has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.evaluation.benchmarks import Split
from prefdelta.evaluation.results import domain_score
from prefdelta.evaluation.selection import Selection, choose
from prefdelta.merging.engine import REPORT_NAME, merge
from prefdelta.merging.geometry import compare
from prefdelta.pairs.pairing import reverse_labels, shuffle_labels
from prefdelta.pipeline.stages import PAIRS, RECORDS, Inputs, evaluate
from prefdelta.pipeline.unit import Workbench
from prefdelta.recipe import Control, Domain, ModelRef
from prefdelta.records import Pair, Record, read_rows
from prefdelta.store import Artifact, write_json
from prefdelta.training import joint_pairs

SCORES = "scores.json"
SELECTION = "selection.json"
GEOMETRY = "geometry.json"


def pairs_for(control: Control | None, pairs: Path, seed: int) -> Sequence[Pair]:
    """The pairs of a file, as a control has them: it may change what they say."""
    read = read_rows(pairs, Pair)
    if control == "shuffled":
        return shuffle_labels(read, seed)
    if control == "reversed":
        return reverse_labels(read)
    return read


def all_pairs(inputs: Inputs, deltas: Sequence[str]) -> Sequence[Pair]:
    """The union of the pair sets of some deltas, for joint training."""
    return joint_pairs({name: read_rows(inputs[f"pairs of {name}"].path / PAIRS, Pair) for name in deltas})


def merge_adapters(work: Path, inputs: Inputs, method: str, adapters: Sequence[str]) -> None:
    """Adapters -> one adapter, at λ = 1. GAM aligns to the delta that does best on validation (PDA, footnote 2)."""
    options = merge_options(inputs, method, adapters)
    merge([inputs[name].path for name in adapters], work / "adapter", method=method, options=options, compare=True)


def merge_options(inputs: Inputs, method: str, adapters: Sequence[str]) -> dict[str, Any]:
    """A merge's options; ``inputs`` holds each adapter's validation as ``validation of NAME``."""
    if not method.startswith("gam"):
        return {}
    scores = [_scores(inputs[f"validation of {name}"])[1.0] for name in adapters]
    return {"reference": scores.index(max(scores))}


def validate(
    work: Path,
    adapter: Path,
    bench: Workbench,
    student: ModelRef,
    domain: Domain,
    scales: Sequence[float],
    seed: int,
) -> None:
    """An adapter at every scale λ on the validation items -> ``scores.json``: λ -> domain score in [0, 1]."""
    scores = {
        f"{scale:g}": domain_score(
            _evaluate(work / f"scale-{scale:g}", bench, student, adapter, scale, domain, "validation", seed)
        )
        for scale in scales
    }
    write_json(work / SCORES, scores)


def test(
    work: Path,
    adapter: Path | None,
    bench: Workbench,
    model: ModelRef,
    domain: Domain,
    scales: Sequence[float],
    seed: int,
) -> None:
    """A model, bare or with an adapter at some scales, on the test items -> one folder of records per scale."""
    for scale in scales:
        _evaluate(work / f"scale-{scale:g}", bench, model, adapter, scale, domain, "test", seed)


def select(work: Path, inputs: Inputs, groups: Mapping[str, Sequence[str]]) -> None:
    """Validation scores -> ``selection.json``: for each group of variants, all scores by seed.

    Args:
        work: the working folder.
        inputs: ``SEED/VARIANT`` -> its validation artifact.
        groups: ``merges``, ``singles``, ``baselines`` and ``controls``, with the variants in each.
    """
    table: dict[str, dict[str, dict[str, list[float]]]] = {group: {} for group in groups}
    for label, artifact in inputs.items():
        variant = label.split("/", 1)[1]
        (group,) = [name for name, members in groups.items() if variant in members]
        by_scale = table[group].setdefault(variant, {})
        for scale, score in _scores(artifact).items():
            by_scale.setdefault(f"{scale:g}", []).append(score)
    write_json(work / SELECTION, table)


def selections(artifact: Artifact) -> dict[str, Selection]:
    """What validation chose in each group of variants that has any."""
    table = json.loads((artifact.path / SELECTION).read_text(encoding="utf-8"))
    return {
        group: choose(
            {(name, float(scale)): values for name, by_scale in variants.items() for scale, values in by_scale.items()}
        )
        for group, variants in table.items()
        if variants
    }


def tuned_scales(artifact: Artifact, variant: str) -> list[float]:
    """λ = 1 and, if it is another one, the λ that validation chose for a variant."""
    for selection in selections(artifact).values():
        if variant in selection.scale:
            return sorted({1.0, selection.scale[variant]})
    return [1.0]


def final_merge(work: Path, inputs: Inputs, seeds: Sequence[int], adapters: Sequence[str]) -> None:
    """The adapter to use: the method and λ that validation chose, from the seed that did best on validation.

    Args:
        work: the working folder.
        inputs: ``selection``; ``SEED/DELTA`` -> each adapter; ``SEED/METHOD`` -> each merge of the chosen method.
        seeds: the training seeds, in the recipe's order.
        adapters: the deltas, in the recipe's order.
    """
    chosen = selections(inputs["selection"])["merges"]
    scale = chosen.scale[chosen.best]
    table = json.loads((inputs["selection"].path / SELECTION).read_text(encoding="utf-8"))
    scores = table["merges"][chosen.best][f"{scale:g}"]
    seed = seeds[scores.index(max(scores))]
    merge(
        [inputs[f"{seed}/{name}"].path for name in adapters],
        work / "adapter",
        method=chosen.best,
        options=merge_report(inputs[f"{seed}/{chosen.best}"])["options"],
        scale=scale,
    )


def merge_report(artifact: Artifact) -> dict[str, Any]:
    """What a merge said of itself."""
    return dict(json.loads((artifact.path / "adapter" / REPORT_NAME).read_text(encoding="utf-8")))


def write_geometry(work: Path, adapters: Sequence[Path]) -> None:
    """How the deltas lie to one another -> ``geometry.json``."""
    write_json(work / GEOMETRY, compare(adapters).model_dump(mode="json"))


def _evaluate(
    folder: Path,
    bench: Workbench,
    model: ModelRef,
    adapter: Path | None,
    scale: float,
    domain: Domain,
    split: Split,
    seed: int,
) -> list[Record]:
    evaluate(
        folder,
        bench,
        model,
        adapter,
        scale,
        domain.benchmarks,
        domain.evaluation_sampling or domain.sampling,
        domain.search,
        split,
        seed,
    )
    return read_rows(folder / RECORDS, Record)


def _scores(artifact: Artifact) -> dict[float, float]:
    raw = json.loads((artifact.path / SCORES).read_text(encoding="utf-8"))
    return {float(scale): score for scale, score in raw.items()}
