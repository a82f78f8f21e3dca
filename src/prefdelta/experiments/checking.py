"""Checks of a recipe when its plan is made: names and options of everything that a registry holds.

A recipe only says names, such as ``objective: dpo``; the packages that hold the objectives, merge methods, scorers and
protocols check them here, before anything runs. Each check imports the package it asks, so that a command which needs
only one of them does not load torch for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from prefdelta.core.errors import told_of
from prefdelta.core.registry import find_configured
from prefdelta.recipe import Benchmark, MergeMethod, Named, Pairing, Scoring, Search, Training
from prefdelta.recipe.suite import LearnedMethod, TriedMethod

Section = TypeVar("Section", bound=BaseModel)


def _training(training: Training) -> Training:
    from prefdelta.training.objectives import resolved

    return resolved(training)


def _search(search: Search) -> Search:
    from prefdelta.agent.protocols import resolved
    from prefdelta.agent.retrieval.factory import RETRIEVERS

    if search.retriever is not None:
        find_configured(RETRIEVERS, search.retriever)
    return resolved(search)


def _pairing(pairing: Pairing) -> Pairing:
    from prefdelta.pairs.rules import RULES

    find_configured(RULES, pairing.rule)
    return pairing


def _benchmark(benchmark: Benchmark) -> Benchmark:
    from prefdelta.evaluation.benchmarks import BENCHMARKS
    from prefdelta.evaluation.scoring import SCORERS

    if benchmark.scorer is not None:
        find_configured(SCORERS, benchmark.scorer)
    if benchmark.benchmark is not None:
        find_configured(BENCHMARKS, benchmark.benchmark)
    return benchmark


def _scoring(scoring: Scoring) -> Scoring:
    from prefdelta.evaluation.scoring import SCORERS

    if scoring.scorer is not None:
        find_configured(SCORERS, scoring.scorer)
    return scoring


def _merge_method(method: MergeMethod) -> MergeMethod:
    from prefdelta.merging import METHODS

    find_configured(METHODS, method)
    return method


def _tried_method(method: TriedMethod) -> TriedMethod:
    from prefdelta.experiments.suites.tuning import settings_of
    from prefdelta.merging import METHODS

    for setting in settings_of(method):
        find_configured(METHODS, Named(name=method.name, options=dict(setting.options)))
    return method


def _learned_method(method: LearnedMethod) -> LearnedMethod:
    from prefdelta.merging.learned.methods import LEARNED

    find_configured(LEARNED, Named(name=method.learn, options=method.options))
    return method


_CHECKS: dict[type[BaseModel], Callable[[Any], BaseModel]] = {
    Training: _training,
    Search: _search,
    Pairing: _pairing,
    Benchmark: _benchmark,
    Scoring: _scoring,
    MergeMethod: _merge_method,
    TriedMethod: _tried_method,
    LearnedMethod: _learned_method,
}
"""Section of a recipe -> the same section, checked and with what a registry knows filled in."""


def checked(section: Section) -> Section:
    """The same recipe, or section of one, with every name known and the defaults of objectives and protocols filled in.

    Raises:
        PrefdeltaError: a name or an option is unknown or has a bad value; the message begins with the section's
            dotted path.
    """
    return _checked(section, "")


def _checked(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _checked(entry, _below(where, key)) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(_checked(entry, _below(where, place)) for place, entry in enumerate(value))
    if not isinstance(value, BaseModel):
        return value
    fields = {name: getattr(value, name) for name in type(value).model_fields}
    changed = {name: new for name, old in fields.items() if (new := _checked(old, _below(where, name))) != old}
    section = value.model_copy(update=changed) if changed else value
    check = _CHECKS.get(type(value))
    if check is None:
        return section
    with told_of(where):
        return check(section)


def _below(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)
