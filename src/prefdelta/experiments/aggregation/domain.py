"""The order of a domain's units: every unit comes after its inputs."""

from __future__ import annotations

from collections.abc import Iterator

from prefdelta.experiments.aggregation import evaluation, learning
from prefdelta.experiments.aggregation.domain_context import CONTROL_MERGE, DomainContext
from prefdelta.experiments.aggregation.guard import guard
from prefdelta.experiments.aggregation.preference_pairs import pairs
from prefdelta.experiments.aggregation.selection import selection
from prefdelta.experiments.aggregation.validation import validation
from prefdelta.experiments.aggregation.watching import watch
from prefdelta.experiments.answers import prompts_unit, responses_unit, scores_unit
from prefdelta.experiments.student import STUDENT
from prefdelta.experiments.unit import Unit
from prefdelta.recipe import ModelRef


def domain_units(domain: DomainContext) -> Iterator[Unit]:
    """All units of the domain, in order."""
    settings, prompts = domain.settings, domain.path("prompts")
    yield prompts_unit(prompts, settings.prompts, settings.search)
    for label, source in domain.sources.items():
        yield responses_unit(
            domain.path(f"responses/{label}"),
            source,
            settings.sampling,
            settings.search,
            questions=settings.prompts,
            prompts=prompts,
        )
    if settings.pairing.needs_scores and settings.scoring is not None:
        for label in domain.sources:
            yield scores_unit(
                domain.path(f"scores/{label}"),
                settings.scoring,
                label,
                prompts=prompts,
                responses=domain.path(f"responses/{label}"),
                count=settings.prompts.count * settings.sampling.n,
                text=domain.text,
            )
    for delta in domain.deltas:
        yield pairs(domain, delta)
    yield from _trained_and_tried(domain)
    yield selection(domain)
    for seed in domain.recipe.seeds:
        yield evaluation.test(domain, seed, STUDENT, None, tuned=False)
        for delta in domain.deltas:
            yield evaluation.test(domain, seed, delta, f"adapters/{seed}/{delta}", tuned=True)
        for name in domain.merges:
            yield evaluation.test(domain, seed, name, f"merges/{seed}/{name}", tuned=True)
        for baseline in domain.recipe.baselines:
            yield evaluation.test(domain, seed, baseline, learning.baseline_path(domain, seed, baseline), tuned=True)
        for control in domain.controls if seed in domain.control_seeds else ():
            *singles, merged = domain.control_variants(control)
            for single in singles:
                yield evaluation.test(domain, seed, single, f"adapters/{seed}/{single}", tuned=False)
            yield evaluation.test(domain, seed, merged, f"merges/{seed}/{merged}", tuned=True)
        if domain.recipe.watch is not None:
            yield watch(domain, seed, domain.recipe.watch)
    # Last what loads another model or the student in another way, so that an engine goes on through all tests.
    yield guard(domain)
    if domain.recipe.evaluate_weak:
        for label, source in domain.sources.items():
            if isinstance(source, ModelRef):
                yield evaluation.weak_test(domain, label, source)
    yield learning.geometry(domain)


def _trained_and_tried(domain: DomainContext) -> Iterator[Unit]:
    """Adapters and merges of all training seeds, and each variant at several scales."""
    seeds, together = domain.recipe.seeds, domain.settings.training.together
    if together:
        for seed in seeds:
            yield learning.together(domain, seed, None)
    for delta in domain.deltas:
        for seed in seeds:
            yield learning.adapter(domain, seed, delta, None)
        yield validation(domain, delta, {seed: f"adapters/{seed}/{delta}" for seed in seeds})
    for name, method in domain.merges.items():
        for seed in seeds:
            yield learning.merged(domain, seed, name, method, domain.deltas)
        yield validation(domain, name, {seed: f"merges/{seed}/{name}" for seed in seeds}, merge=True)
    for baseline in domain.recipe.baselines:
        for seed in seeds:
            yield from learning.baseline(domain, seed, baseline)
        yield validation(domain, baseline, {seed: learning.baseline_path(domain, seed, baseline) for seed in seeds})
    for control in domain.controls:
        *singles, merged = domain.control_variants(control)
        for seed in domain.control_seeds:
            if together:
                yield learning.together(domain, seed, control)
            for delta in domain.deltas:
                yield learning.adapter(domain, seed, delta, control)
            yield learning.merged(domain, seed, merged, CONTROL_MERGE, singles)
        yield validation(domain, merged, {seed: f"merges/{seed}/{merged}" for seed in domain.control_seeds})
