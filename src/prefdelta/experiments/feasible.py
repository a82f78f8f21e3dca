"""Checks of a whole recipe before anything runs: what its parts ask of one another, and the files that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from prefdelta.core.errors import PrefdeltaError, told_of
from prefdelta.core.files import exists
from prefdelta.core.model_files import local_folder
from prefdelta.core.registry import find_configured
from prefdelta.experiments.fusion.fusion_context import shown_of
from prefdelta.experiments.room import LEAST_TESTED
from prefdelta.experiments.suites.tuning import settings_of
from prefdelta.experiments.unit import Unit
from prefdelta.merging.learned.methods import get_learned
from prefdelta.merging.registry import METHODS
from prefdelta.pairs.rules import RULES
from prefdelta.recipe import (
    LM_EVAL,
    PAIRS,
    REGISTERED,
    BaseRecipe,
    Benchmark,
    HeldOutPairs,
    Imported,
    MergeMethod,
    ModelRef,
    Named,
    Questions,
    Recipe,
    Scoring,
    Search,
    Training,
)
from prefdelta.recipe.fusion import FusionRecipe
from prefdelta.recipe.suite import LearnedMethod, SuiteRecipe, TriedMethod
from prefdelta.training.launch import check_launch
from prefdelta.training.plan import only_warms_up

_NO_CORPUS_FILE = ("micro:", "http://", "https://")
_ELSEWHERE = ("micro:", LM_EVAL, PAIRS, REGISTERED)


def check_feasible(recipe: BaseRecipe) -> None:
    """Refuse a recipe that would only fail hours later.

    Raises:
        PrefdeltaError: a merge method does not take as many adapters as there are, a training would not move the
            weights, or a file is not there; the message begins with the key's dotted path. Or a launcher asks to cut
            the base into parts.
    """
    if isinstance(recipe, Recipe | FusionRecipe):
        check_launch()
    if isinstance(recipe, Recipe):
        _check_aggregation(recipe)
    if isinstance(recipe, FusionRecipe):
        _check_benchmarks(recipe.benchmarks, "")
        _check_training(recipe.sft, shown_of(recipe.prompts.count, recipe.sft_share), "sft")
        for name, method in recipe.methods.items():
            _check_training(method.training, recipe.prompts.count, name)
    if isinstance(recipe, SuiteRecipe):
        _check_suite(recipe)


def check_files(recipe: BaseRecipe, units: Sequence[Unit]) -> None:
    """Refuse a recipe that names a file of questions, answers, scores or of a merge method's data that is not there.

    Raises:
        PrefdeltaError: as said; the message begins with the key's dotted path.
    """
    for where, section in _sections(recipe, ""):
        if isinstance(section, ModelRef):
            _check_folder(section, where)
        for key, path in _named_files(section):
            if not exists(path):
                raise PrefdeltaError(f"{where}.{key}: there is no file {path}.")
    for unit in units:
        for path in unit.reads:
            if not exists(path):
                raise PrefdeltaError(f"{unit.name} would read {path}, which is not there.")


def _check_folder(model: ModelRef, where: str) -> None:
    with told_of(where):
        local_folder(model)


def _check_aggregation(recipe: Recipe) -> None:
    for name, domain in recipe.domains.items():
        count = len(domain.deltas)
        for method in recipe.merge.methods:
            _check_count(method, count, f"merge.methods: domain {name!r}")
            if recipe.watch is not None and count > 1:
                _check_count(method, count - 1, f"watch: domain {name!r} is also merged without each of its deltas")
        several = RULES.find(domain.pairing.rule.name).one_by_one
        each = domain.sampling.n if several else 1
        pairs = (domain.prompts.count - domain.held_out) * each
        _check_training(domain.training, pairs, f"domains.{name}.training")
        _check_benchmarks(domain.benchmarks, f"domains.{name}.", domain.held_out, each)


def _check_benchmarks(benchmarks: Sequence[Benchmark], where: str, held_out: int = 0, each: int = 1) -> None:
    """Refuse benchmarks whose results could have no interval.

    Args:
        benchmarks: the benchmarks.
        where: what their key begins with.
        held_out: prompts whose pairs are held out.
        each: the most pairs of one.
    """
    for place, benchmark in enumerate(benchmarks):
        if benchmark.test < LEAST_TESTED:
            raise PrefdeltaError(
                f"{where}benchmarks.{place}.test: an interval needs {LEAST_TESTED} items or more, not {benchmark.test}."
            )
        made = benchmark.pairs is not None and benchmark.pairs.held_out is not None
        needed = benchmark.validation + LEAST_TESTED
        if made and (held_out * each < needed or held_out < LEAST_TESTED):
            raise PrefdeltaError(
                f"{where}benchmarks.{place}: at most {held_out * each} pairs on {held_out} prompts are held out, of "
                f"which validation takes {benchmark.validation} and the test needs {LEAST_TESTED}; raise held_out, or "
                "lower validation."
            )


def _check_suite(recipe: SuiteRecipe) -> None:
    merged = len(recipe.tasks)
    counts = {merged, merged - len(recipe.unseen)}
    for place, method in enumerate(recipe.methods):
        if isinstance(method, LearnedMethod):
            for count in counts:
                with told_of(f"methods.{place}"):
                    get_learned(method.learn).parse(method.options, count)
            continue
        for setting in settings_of(method):
            one = Named(name=method.name, options=dict(setting.options))
            for count in counts:
                _check_count(one, count, f"methods.{place}")


def _check_count(method: Named, count: int, where: str) -> None:
    entry, options = find_configured(METHODS, method)
    with told_of(where):
        entry.check_count(count, options)


def _check_training(training: Training, rows: int, where: str) -> None:
    """A rate that rises from 0 over the first steps leaves a training of one step where it began."""
    if only_warms_up(max(1, rows), training):
        raise PrefdeltaError(
            f"{where}: {rows} rows in batches of {training.batch_size} are one step, whose learning rate is 0 while "
            "it warms up; lower batch_size, raise epochs, or set warmup_ratio to 0."
        )


def _sections(value: Any, where: str) -> Iterator[tuple[str, BaseModel]]:
    if isinstance(value, BaseModel):
        if where:
            yield where, value
        children: Iterator[tuple[Any, Any]] = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, dict):
        children = iter(value.items())
    elif isinstance(value, tuple):
        children = iter(enumerate(value))
    else:
        return
    for key, child in children:
        yield from _sections(child, f"{where}.{key}" if where else str(key))


def _named_files(section: BaseModel) -> Iterator[tuple[str, str]]:
    if isinstance(section, Questions) and section.format != "huggingface":
        if not section.source.startswith(_ELSEWHERE):
            yield "source", section.source
    elif isinstance(section, Imported):
        yield "path", section.path
    elif isinstance(section, HeldOutPairs):
        if section.path is not None:
            yield "path", section.path
    elif isinstance(section, Scoring):
        if section.path is not None and "{source}" not in section.path:  # by source, it is in what a unit reads
            yield "path", section.path
    elif isinstance(section, Search) and section.retriever is None and not section.corpus.startswith(_NO_CORPUS_FILE):
        yield "corpus", section.corpus
    elif isinstance(section, MergeMethod) and not isinstance(section, TriedMethod):
        _, options = find_configured(METHODS, section)
        for key in type(options).model_fields:
            value = getattr(options, key)
            for entry in value if isinstance(value, tuple) else (value,):
                if isinstance(entry, Path):
                    yield f"options.{key}", str(entry)
