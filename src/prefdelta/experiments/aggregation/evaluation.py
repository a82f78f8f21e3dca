"""The units that evaluate on test items: every variant, the student and the models that wrote answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
    answering_config,
    division_of_records,
    evaluate,
    evaluation_unit,
)
from prefdelta.experiments.unit import Externals, Inputs, RunContext, Unit
from prefdelta.recipe import ModelRef


def test(domain: DomainContext, seed: int, variant: str, adapter: str | None, *, tuned: bool) -> Unit:
    """A variant, or the bare student, on the test items: at λ = 1 and, if ``tuned``, at the λ that was chosen.

    Writes one folder of records per scale.
    """

    def subjects(inputs: Inputs) -> list[Subject]:
        folder = adapter_folder(inputs["adapter"]) if adapter else None
        scales = selected(inputs["selection"]).tested(variant) if tuned else [1.0]
        return [Subject(domain.student.ref, folder, scale) for scale in scales]

    return _evaluation(
        domain,
        f"test/{seed}/{variant}",
        domain.student.given,
        subjects,
        seed,
        config={"split": "test", "variant": variant, "tuned": tuned, "seed": seed},
        inputs={
            **({"adapter": domain.path(adapter)} if adapter else {}),
            **({"selection": domain.path("selection")} if tuned else {}),
            **domain.student.inputs,
        },
        weights=domain.student.externals(),
        times=2 if tuned else 1,
    )


def weak_test(domain: DomainContext, label: str, source: ModelRef) -> Unit:
    """A model that wrote answers, on the test items."""
    return _evaluation(
        domain,
        f"test/weak/{label}",
        source,
        lambda inputs: [Subject(source)],
        0,
        config={"split": "test", "model": source},
        inputs={},
        weights={"weights": partial(fingerprint, source)},
        times=1,
    )


def _evaluation(
    domain: DomainContext,
    name: str,
    model: ModelRef,
    subjects: Callable[[Inputs], Sequence[Subject]],
    seed: int,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    weights: Externals,
    times: int,
) -> Unit:
    """``subjects``, which are ``model`` bare or at some scales, on the test items; a folder of records for each."""
    settings = domain.settings
    sampling = settings.evaluation_sampling or settings.sampling
    exam = Exam(settings.benchmarks, sampling, settings.search, "test", seed)

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        for subject in subjects(inputs):
            evaluate(
                work / f"scale-{subject.scale:g}",
                context,
                subject,
                exam,
                held_out=domain.held_out_files(inputs),
                cache=domain.student.cache,
                rank=domain.rank,
                shard=shard,
            )

    unit = evaluation_unit(
        domain.path(name),
        exam,
        model,
        config={**config, **answering_config(model)},
        inputs={**inputs, **domain.held_out},
        weights=weights,
        times=times,
        make=make,
    )
    return replace(unit, division=division_of_records(model, exam, make))
