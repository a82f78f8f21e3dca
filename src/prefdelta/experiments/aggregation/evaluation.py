"""The units that evaluate on test items: every variant, the student and the models that wrote answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from prefdelta.core.model_files import fingerprint
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.selection import selected
from prefdelta.experiments.aggregation.validation import adapter_folder
from prefdelta.experiments.evaluation import (
    Exam,
    Subject,
    division_of_records,
    engine_config,
    evaluate,
    evaluation_unit,
)
from prefdelta.experiments.load import evaluated
from prefdelta.experiments.unit import Externals, Inputs, MakeShard, RunContext, Unit
from prefdelta.recipe import ModelRef


def test(domain: DomainContext, seed: int, variant: str, adapter: str | None, *, tuned: bool) -> Unit:
    """A variant, or the bare student, on the test items: at λ = 1 and, if ``tuned``, at the λ that was chosen.

    Writes one folder of records per scale.
    """

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        folder = adapter_folder(inputs["adapter"]) if adapter else None
        for scale in selected(inputs["selection"]).tested(variant) if tuned else [1.0]:
            _answer(work, inputs, context, domain, domain.student.ref, folder, scale, seed, shard)

    return _evaluation(
        domain,
        f"test/{seed}/{variant}",
        config={"split": "test", "variant": variant, "tuned": tuned, "seed": seed},
        inputs={
            **({"adapter": domain.path(adapter)} if adapter else {}),
            **({"selection": domain.path("selection")} if tuned else {}),
        },
        make=make,
        model=domain.student.given,
        scales=2 if tuned else 1,
    )


def weak_test(domain: DomainContext, label: str, source: ModelRef) -> Unit:
    """A model that wrote answers, on the test items."""

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        _answer(work, inputs, context, domain, source, None, 1.0, 0, shard)

    return _evaluation(
        domain,
        f"test/weak/{label}",
        config={"split": "test", "model": source},
        inputs={},
        weights={"weights": partial(fingerprint, source)},
        make=make,
        model=source,
        scales=1,
    )


def _evaluation(
    domain: DomainContext,
    name: str,
    *,
    config: dict[str, Any],
    inputs: dict[str, str],
    make: MakeShard,
    model: ModelRef,
    scales: int,
    weights: Externals | None = None,
) -> Unit:
    """An evaluation of the student, or of another model with its own ``weights``."""
    settings = domain.settings
    sampling = settings.evaluation_sampling or settings.sampling
    asked = [(benchmark, benchmark.test) for benchmark in settings.benchmarks]
    return evaluation_unit(
        domain.path(name),
        "test",
        config={**config, **engine_config(model)},
        inputs={**inputs, **domain.held_out, **(domain.student.inputs if weights is None else {})},
        weights=domain.student.externals() if weights is None else weights,
        benchmarks=settings.benchmarks,
        sampling=sampling,
        search=settings.search,
        samples=scales * sum(items for _, items in asked),
        make=make,
        load=evaluated(model, asked, sampling, settings.search, scales),
        division=division_of_records(model, asked, sampling, make),
    )


def _answer(
    work: Path,
    inputs: Inputs,
    context: RunContext,
    domain: DomainContext,
    model: ModelRef,
    adapter: Path | None,
    scale: float,
    seed: int,
    shard: Shard,
) -> None:
    """The records of a model, bare or with an adapter at one scale, in a folder of the scale's."""
    settings = domain.settings
    sampling = settings.evaluation_sampling or settings.sampling
    evaluate(
        work / f"scale-{scale:g}",
        context,
        Subject(model, adapter, scale),
        Exam(settings.benchmarks, sampling, settings.search, "test", seed),
        held_out=domain.held_out_files(inputs),
        cache=domain.student.cache,
        rank=domain.rank,
        shard=shard,
    )
