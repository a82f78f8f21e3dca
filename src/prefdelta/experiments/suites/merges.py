"""The units that merge a suite's adapters at the chosen settings, and test the merges."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefdelta.adapters import Adapter
from prefdelta.adapters.applied import adapted
from prefdelta.experiments.suites.measure import measure, write_outcomes
from prefdelta.experiments.suites.suite_context import SuiteContext
from prefdelta.experiments.suites.suite_inputs import ADAPTER, SuiteInputs
from prefdelta.experiments.suites.tuning import TEST, chosen_setting, learn_merge, learned_folder
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.merging import merge
from prefdelta.recipe.suite import LearnedMethod, PreferenceSweep, SuiteMergeMethod


def merge_units(suite: SuiteContext, method: SuiteMergeMethod, seed: int) -> Iterator[Unit]:
    """The merge of all tasks and its test; the merge without the unseen tasks and its test on them."""
    names, unseen = suite.names, list(suite.recipe.unseen)
    yield _merge(suite, "merges", method, seed, names)
    yield _test(suite, "tests", "merges", method, seed, names, names)
    if unseen:
        yield _merge(suite, "merges-seen", method, seed, suite.kept)
        yield _test(suite, "unseen", "merges-seen", method, seed, suite.kept, unseen)


def _merge(suite: SuiteContext, stage: str, method: SuiteMergeMethod, seed: int, names: Sequence[str]) -> Unit:
    """The merge of some tasks' adapters at the chosen setting -> ``adapter/``, before its scale.

    Tuning made the learned merge of all tasks with the first seed; that one is copied.
    """
    recipe = suite.recipe
    tuned = seed == recipe.seeds[0] and names == suite.names

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        setting = chosen_setting(inputs["tuning"], method)
        loaded, target = SuiteInputs(recipe, inputs), work / ADAPTER
        if not isinstance(method, LearnedMethod):
            paths = [adapter.path for adapter in loaded.adapters(names)]
            merge(paths, target, method=method.name, options=dict(setting.options))
        elif tuned:
            shutil.copytree(learned_folder(inputs["tuning"].path, setting), target, dirs_exist_ok=True)
        else:
            learn_merge(loaded, names, method, setting, target, context.progress)

    return suite.unit(
        f"{stage}/{seed}/{method.called}",
        config={"method": method, "merged": names},
        inputs=_inputs(suite, method, seed),
        make=make,
        steps=method.learning.steps if isinstance(method, LearnedMethod) and not tuned else 0,
    )


def _test(
    suite: SuiteContext,
    stage: str,
    merges: str,
    method: SuiteMergeMethod,
    seed: int,
    merged: Sequence[str],
    tested: Sequence[str],
) -> Unit:
    """A merge at its chosen scale on the test items of some tasks -> outcomes."""
    recipe = suite.recipe

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        loaded = SuiteInputs(recipe, inputs)
        trials = loaded.trials(tested, "test")
        joint = loaded.joint(loaded.trials(suite.names, "test"))
        scale = chosen_setting(inputs["tuning"], method).scale
        with adapted(loaded.encoder.model, Adapter.open(inputs["merge"].path / ADAPTER), scale, heads=False) as model:
            outcomes = measure(loaded.encoder, model, trials, joint, batch=recipe.evaluation_batch)
        write_outcomes(work / TEST, outcomes)

    return suite.unit(
        f"{stage}/{seed}/{method.called}",
        config={"method": method, "merged": merged, "tested": tested},
        inputs=_inputs(suite, method, seed) | {"merge": f"{merges}/{seed}/{method.called}"},
        make=make,
    )


def preference_units(suite: SuiteContext, sweep: PreferenceSweep) -> Iterator[Unit]:
    """One unit per preference ρ of a sweep."""
    (method,) = [method for method in suite.recipe.methods if method.called == sweep.method]
    assert isinstance(method, LearnedMethod)
    for weight in sweep.weights:
        yield _preference(suite, method, sweep.task, weight)


def _preference(suite: SuiteContext, method: LearnedMethod, task: str, weight: float) -> Unit:
    """A learned merge under a preference ρ for one task -> its adapter and its outcomes on all test items."""
    recipe, names, seed = suite.recipe, suite.names, suite.recipe.seeds[0]
    rest = (1 - weight) / (len(names) - 1)
    preference = tuple(weight if name == task else rest for name in names)
    steered = method.model_copy(update={"learning": method.learning.model_copy(update={"preference": preference})})

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        setting = chosen_setting(inputs["tuning"], method)
        loaded, target = SuiteInputs(recipe, inputs), work / ADAPTER
        learn_merge(loaded, names, steered, setting, target, context.progress)
        with adapted(loaded.encoder.model, Adapter.open(target), setting.scale, heads=False) as model:
            outcomes = measure(loaded.encoder, model, loaded.trials(names, "test"), None, batch=recipe.evaluation_batch)
        write_outcomes(work / TEST, outcomes)

    return suite.unit(
        f"preference/{weight:g}",
        config={"method": method, "task": task, "weight": weight},
        inputs=_inputs(suite, method, seed),
        make=make,
        steps=method.learning.steps,
    )


def _inputs(suite: SuiteContext, method: SuiteMergeMethod, seed: int) -> dict[str, str]:
    return suite.inputs(seed) | {"tuning": f"tuning/{method.called}", "references": f"references/{seed}"}
