"""The unit that tries a variant at several scales λ: answers to validation items, or the loss on preference pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prefdelta.core.files import expanded, write_json
from prefdelta.core.records import RECORDS, Pair, Record, read_rows
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.store import Artifact
from prefdelta.evaluation.benchmarks import benchmark_pairs
from prefdelta.evaluation.pair_margins import PairRows
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.evaluation import Exam, Subject, answering_config, evaluate, evaluation_unit
from prefdelta.experiments.load import Passed
from prefdelta.experiments.preference_pairs import PAIRS
from prefdelta.experiments.unit import Inputs, RunContext, Unit, Work
from prefdelta.merging.engine import REPORT_NAME
from prefdelta.merging.tuning.line_search import maximise
from prefdelta.merging.tuning.objectives import Measured, PairLoss, draw_seeds, informative, labelled
from prefdelta.recipe import By

SCORES = "scores.json"
_KEPT = "pairs.kept-rows"


def validation(domain: DomainContext, variant: str, adapters: Mapping[int, str], *, merge: bool = False) -> Unit:
    """A variant at several scales λ, all training seeds together -> ``scores.json``.

    The domain's ``merges`` are chosen as the recipe says; whatever they are compared with is chosen by labels, wherever
    there are validation items, so that no margin is flattered. Where two answers to each item are drawn to be compared,
    both measures are taken of the same answers, and one stands beside the other.

    Args:
        domain: the domain.
        variant: its name.
        adapters: training seed -> the artifact that its adapter is, or is in.
        merge: whether the domain's rule chooses its scale.
    """
    by = domain.by if merge or not domain.asked else "labels"
    answered = bool(domain.asked) and not (merge and domain.by == "pairs")
    scales, settings = domain.scales(variant), domain.recipe.merge.selection
    drawn = 2 if domain.by == "agreement" else 1

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        measuring = _Measuring(domain, work, inputs, context, answered)
        tried: dict[float, dict[int, dict[By, Measured]]] = {}

        def score(scale: float) -> float:
            tried[scale] = {seed: measuring(seed, scale) for seed in adapters}
            return float(np.mean([measures[by].score for measures in tried[scale].values()]))

        if scales == "auto":
            maximise(score, float(np.mean([_norm_matched(inputs[str(seed)]) for seed in adapters])), settings.budget)
        else:
            for scale in scales:
                score(scale)
        write_json(work / SCORES, {"by": by, "scales": {f"{scale:g}": _plain(tried[scale]) for scale in sorted(tried)}})

    trials = len(adapters) * (settings.budget if scales == "auto" else len(scales))
    compared = {f"pairs of {delta}": domain.path(f"pairs/{delta}") for delta in domain.deltas}
    student, asked = domain.student, domain.settings
    unit = evaluation_unit(
        domain.path(f"validation/{variant}"),
        Exam(asked.benchmarks, domain.validation_sampling, asked.search, "validation", 0),
        student.given,
        config={
            "split": "validation",
            "scales": scales,
            "by": by,
            "beside": domain.by,
            "selection": settings,
            **answering_config(student.given),
        },
        inputs={
            **{str(seed): domain.path(adapter) for seed, adapter in adapters.items()},
            **(compared if domain.by == "pairs" else {}),
            **domain.held_out,
            **student.inputs,
        },
        weights=student.externals(),
        times=trials * drawn,
        make=make,
    )
    if answered:
        return unit
    read = Passed(student.given, trials * _pairs_read(domain), domain.text, asked.training.max_length, 1)
    return replace(unit, work=Work(load=(read,)))


def _pairs_read(domain: DomainContext) -> int:
    """Answers of pairs that are read to measure one merge."""
    held_out = sum(benchmark.validation for benchmark in domain.asked if benchmark.pairs is not None)
    return 2 * (held_out or domain.recipe.merge.selection.pairs * len(domain.deltas))


def choice_line(domain: DomainContext) -> str:
    """What scale and method of a domain's merges will be chosen by, and what that takes at most."""
    settings, seeds = domain.recipe.merge.selection, len(domain.recipe.seeds)
    listed = [domain.scales(name) for name in domain.methods]
    trials = sum(settings.budget if scales == "auto" else len(scales) for scales in listed)
    start = f"{domain.name}: λ and method of the merge are chosen by {domain.by}; at most {trials} merges"
    start += f" of {seeds} seeds" if seeds > 1 else ""
    if domain.by == "pairs":
        return f"{start} read {_pairs_read(domain):,} answers of pairs each, and nothing is generated."
    items = sum(benchmark.validation for benchmark in domain.asked)
    if domain.by == "labels":
        return f"{start} answer {items:,} labelled items each."
    return f"{start} answer {items:,} items twice each, whose labels are not used for it."


def adapter_folder(artifact: Artifact) -> Path:
    """The adapter in an artifact: a merge keeps it in a folder of its own, a training is one."""
    own = artifact.path / "adapter"
    return own if own.is_dir() else artifact.path


def merge_report(artifact: Artifact) -> dict[str, Any]:
    """What a merge said of itself."""
    return dict(artifact.json(f"adapter/{REPORT_NAME}"))


@dataclass(frozen=True)
class Validated:
    """What a validation measured.

    Attributes:
        by: the measure that chooses the variant's scale.
        trials: λ, upwards -> training seed -> measure -> what it came to.
    """

    by: By
    trials: Mapping[float, Mapping[int, Mapping[By, Measured]]]

    @staticmethod
    def read(artifact: Artifact) -> Validated:
        """Read what :func:`validation` wrote."""
        raw = artifact.json(SCORES)
        scales = sorted(raw["scales"].items(), key=lambda entry: float(entry[0]))
        return Validated(
            raw["by"],
            {
                float(scale): {
                    int(seed): {measure: Measured.read(entry) for measure, entry in measures.items()}
                    for seed, measures in seeds.items()
                }
                for scale, seeds in scales
            },
        )

    def scores(self, by: By) -> dict[float, dict[int, float]]:
        """λ -> training seed -> score; empty where this was not measured."""
        return {
            scale: {seed: measures[by].score for seed, measures in seeds.items()}
            for scale, seeds in self.trials.items()
            if all(by in measures for measures in seeds.values())
        }

    def by_item(self, by: By) -> dict[float, list[Any]]:
        """λ -> by task the scores ``(seeds, items)``."""
        return {
            scale: [
                np.concatenate(rows)
                for rows in zip(*(measures[by].by_item for measures in self.trials[scale].values()), strict=True)
            ]
            for scale in self.scores(by)
        }

    def unparsed(self) -> dict[float, float]:
        """λ -> the share of answers in which none was found; empty where nothing was answered."""
        return {
            scale: float(np.mean([measures["labels"].unparsed for measures in self.trials[scale].values()]))
            for scale in self.scores("labels")
        }


@dataclass
class _Measuring:
    """Measures one variant's adapter of a training seed at a scale; what was answered before is not asked again."""

    domain: DomainContext
    work: Path
    inputs: Inputs
    context: RunContext
    answered: bool

    def __call__(self, seed: int, scale: float) -> dict[By, Measured]:
        found: dict[By, Measured] = {}
        adapter = adapter_folder(self.inputs[str(seed)])
        if self.answered:
            draws = self._draws(adapter, seed, scale)
            found["labels"] = labelled(draws, [benchmark.name for benchmark in self.domain.asked])
            if self.domain.by == "agreement":
                found["agreement"] = informative(draws, _questions(draws[0], self.domain))
        if self.domain.by == "pairs":
            found["pairs"] = self._pair_loss(adapter, seed, scale)
        return found

    def _draws(self, adapter: Path, seed: int, scale: float) -> list[list[Record]]:
        domain, draws = self.domain, []
        for number, drawn in enumerate(draw_seeds(seed) if domain.by == "agreement" else (seed,)):
            folder = self.work / str(seed) / f"scale-{scale:g}" / f"draw-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            evaluate(
                folder,
                self.context,
                Subject(domain.student.ref, adapter, scale),
                Exam(domain.asked, domain.validation_sampling, domain.settings.search, "validation", drawn),
                held_out=domain.held_out_files(self.inputs),
                cache=domain.student.cache,
                rank=domain.rank,
            )
            draws.append(read_rows(folder / RECORDS, Record))
        return draws

    def _pair_loss(self, adapter: Path, seed: int, scale: float) -> Measured:
        kept, key = ResumableRows(self.work / _KEPT), f"{seed}/{scale:g}"
        if key not in kept.found:
            kept.add([(key, self._loss(adapter, scale).plain())])
            self.context.progress(len(kept.found), len(kept.found) + 1)
        return Measured.read(kept.found[key])

    @cached_property
    def _loss(self) -> PairLoss:
        domain, settings = self.domain, self.domain.recipe.merge.selection
        loaded = self.context.model(domain.student.ref)
        rows = PairRows.of(self._pairs(), loaded, domain.settings.training.max_length).rows
        return PairLoss(loaded, rows, settings.beta)

    def _pairs(self) -> list[Pair]:
        """Validation pairs of benchmarks, which nothing was trained on; without any, the first of each delta's."""
        domain, held_out = self.domain, self.domain.held_out_files(self.inputs)
        found: list[Pair] = []
        for benchmark in domain.asked:
            if (about := benchmark.pairs) is not None:
                file = expanded(about.path) if about.path else held_out[about.held_out or ""]
                found += benchmark_pairs(benchmark, "validation", file)
        if found:
            return found
        files = [self.inputs[f"pairs of {delta}"].path / PAIRS for delta in domain.deltas]
        return [pair for file in files for pair in read_rows(file, Pair)[: domain.recipe.merge.selection.pairs]]


def _questions(records: Sequence[Record], domain: DomainContext) -> dict[str, list[str]]:
    return {
        benchmark.name: [record.prompt_hash for record in records if record.task == benchmark.name]
        for benchmark in domain.parsed
    }


def _norm_matched(artifact: Artifact) -> float:
    """λ at which a merge is as long as its mean member; 1 for what is no merge, or zero."""
    if not (artifact.path / "adapter" / REPORT_NAME).is_file():
        return 1.0
    report = merge_report(artifact)
    members = float(np.mean([entry["norm"] for entry in report["adapters"]]))
    return members / report["norm"] if members and report["norm"] else 1.0


def _plain(seeds: Mapping[int, Mapping[By, Measured]]) -> dict[str, Any]:
    return {
        str(seed): {measure: found.plain() for measure, found in measures.items()} for seed, measures in seeds.items()
    }
