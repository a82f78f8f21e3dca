"""The units that ask the questions, gather and score the answers, and pair them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefdelta.pipeline import stages
from prefdelta.pipeline.aggregation.world import World, labelled
from prefdelta.pipeline.identity import (
    benchmark_externals,
    file_externals,
    portable,
    scoring_externals,
    source_config,
    source_externals,
)
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe import AnySource, Imported, Scoring
from prefdelta.scoring.scores import SCORE_ROWS
from prefdelta.store import Artifact


def prompts(world: World) -> Unit:
    """The questions."""
    asked, search = world.domain.prompts, world.domain.search
    return world.unit(
        "prompts",
        config={"prompts": asked, "protocol": search.protocol if search else None},
        externals=file_externals(asked.source),
        make=lambda work, inputs, bench: stages.write_prompts(work, asked, search),
    )


def responses(world: World, label: str, source: AnySource) -> Unit:
    """The answers of one source to all prompts."""
    domain = world.domain
    sampling, count = domain.sampling, domain.prompts.count * domain.sampling.n

    def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
        asked = inputs["prompts"].path / stages.PROMPTS
        stages.write_responses(work, asked, bench, source, sampling, domain.search)

    imported = isinstance(source, Imported)
    drawn = {} if imported else {"sampling": sampling, "search": domain.search}
    return world.unit(
        f"responses/{label}",
        config={"source": source_config(source), **drawn},
        inputs={"prompts": world.path("prompts")},
        externals={**source_externals(source), **({} if imported else world.corpus())},
        make=make,
        work=Work(samples=0 if imported else count, disk=count * 2048),
    )


def scores(world: World, label: str, scoring: Scoring) -> Unit:
    """The scores of one source's answers."""

    def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
        asked, answers = inputs["prompts"].path / stages.PROMPTS, inputs["responses"].path / stages.RESPONSES
        stages.write_scores(work, asked, answers, bench, scoring, label)

    count = world.domain.prompts.count * world.domain.sampling.n
    return world.unit(
        f"scores/{label}",
        config={"scoring": scoring, "label": label},
        inputs={"prompts": world.path("prompts"), "responses": world.path(f"responses/{label}")},
        externals=scoring_externals(scoring, label),
        make=make,
        work=Work(scores=count, disk=count * 64),
    )


def pairs(world: World, name: str) -> Unit:
    """The preference pairs of the delta ``name``, from the answers of its two models."""
    domain, filters = world.domain, world.domain.filters
    delta = next(delta for delta in domain.deltas if delta.name == name)
    weak, weaker = (label for label, _ in labelled(delta.weak, delta.weaker))
    inputs = {
        "prompts": world.path("prompts"),
        "weak": world.path(f"responses/{weak}"),
        "weaker": world.path(f"responses/{weaker}"),
    }
    if domain.pairing.needs_scores:
        inputs |= {"weak scores": world.path(f"scores/{weak}"), "weaker scores": world.path(f"scores/{weaker}")}
    about = {
        "delta": {"name": name, "weak": source_config(delta.weak), "weaker": source_config(delta.weaker)},
        "sampling": domain.sampling,
        "scoring": domain.scoring,
        "pairing": domain.pairing,
        "filters": filters,
    }

    def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
        scored = [
            inputs[side].path / SCORE_ROWS if side in inputs else None for side in ("weak scores", "weaker scores")
        ]
        files = stages.PairFiles(
            inputs["prompts"].path / stages.PROMPTS,
            inputs["weak"].path / stages.RESPONSES,
            inputs["weaker"].path / stages.RESPONSES,
            *scored,
        )
        stages.write_pairs(
            work,
            files,
            domain.pairing,
            filters,
            portable(about),
            questions=stages.as_asked(domain.prompts, domain.search),
            benchmarks=domain.benchmarks,
            student=world.student,
        )

    compared = benchmark_externals(domain.benchmarks) if filters.decontaminate else {}
    counted = world.weights() if filters.identical_within else {}
    return world.unit(
        f"pairs/{name}",
        config={**about, "benchmarks": domain.benchmarks if filters.decontaminate else ()},
        inputs={**inputs, **(world.base if filters.identical_within else {})},
        externals={**compared, **counted},
        make=make,
        work=Work(disk=world.pair_count * 4096),
    )
