"""The unit that makes the preference pairs of a delta."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefdelta.core.records import Item, read_rows
from prefdelta.core.store import Artifact
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.answers import PROMPTS, as_asked
from prefdelta.experiments.identity import benchmark_externals, portable, source_config
from prefdelta.experiments.preference_pairs import PairFiles, write_pairs
from prefdelta.experiments.room import LEAST_TESTED
from prefdelta.experiments.unit import RunContext, Unit, Work
from prefdelta.generation.responses import RESPONSES
from prefdelta.pairs.scoring.scores import SCORE_ROWS
from prefdelta.recipe import source_label


def pairs(domain: DomainContext, name: str) -> Unit:
    """The preference pairs of the delta ``name``, from the answers of its two models."""
    settings, filters = domain.settings, domain.settings.filters
    delta = next(delta for delta in settings.deltas if delta.name == name)
    weak, weaker = source_label(delta.weak), source_label(delta.weaker)
    inputs = {
        "prompts": domain.path("prompts"),
        "weak": domain.path(f"responses/{weak}"),
        "weaker": domain.path(f"responses/{weaker}"),
    }
    if settings.pairing.needs_scores:
        inputs |= {"weak scores": domain.path(f"scores/{weak}"), "weaker scores": domain.path(f"scores/{weaker}")}
    about = {
        "delta": {"name": name, "weak": source_config(delta.weak), "weaker": source_config(delta.weaker)},
        "sampling": settings.sampling,
        "scoring": settings.scoring,
        "pairing": settings.pairing,
        "filters": filters,
    }

    def make(work: Path, inputs: Mapping[str, Artifact], context: RunContext) -> None:
        def scores(side: str) -> Path | None:
            return inputs[side].path / SCORE_ROWS if side in inputs else None

        files = PairFiles(
            inputs["weak"].path / RESPONSES,
            inputs["weaker"].path / RESPONSES,
            scores("weak scores"),
            scores("weaker scores"),
        )
        write_pairs(
            work,
            read_rows(inputs["prompts"].path / PROMPTS, Item),
            files,
            settings.pairing,
            filters,
            portable(about),
            questions=as_asked(settings.prompts, settings.search),
            benchmarks=settings.benchmarks,
            student=domain.student.ref,
            held_out=settings.held_out,
            least_held_out=max(
                (
                    benchmark.validation + LEAST_TESTED
                    for benchmark in settings.benchmarks
                    if benchmark.pairs is not None and benchmark.pairs.held_out == name
                ),
                default=1,
            ),
        )

    compared = benchmark_externals(settings.benchmarks) if filters.decontaminate else {}
    counted = domain.student.externals() if filters.identical_within else {}
    return Unit(
        domain.path(f"pairs/{name}"),
        "pairs",
        config={
            **about,
            "held_out": settings.held_out,
            "benchmarks": settings.benchmarks if filters.decontaminate else (),
        },
        inputs={**inputs, **(domain.student.inputs if filters.identical_within else {})},
        externals={**compared, **counted},
        make=make,
        work=Work(disk=domain.pair_count * 4096),
    )
