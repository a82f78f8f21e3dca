"""What each stage of a suite does once the adapters exist: references, tuning, merges, tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.adapter import Adapter, MemoryAdapter
from prefdelta.learning.learn import learn
from prefdelta.learning.metrics import normalised_accuracy
from prefdelta.learning.tasks import find_anchors
from prefdelta.merging import merge
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.recipe.suite import ClassifierObjective, LearnedMethod, MergeMethod, SuiteRecipe
from prefdelta.records import digest, to_json
from prefdelta.store import Artifact, write_json
from prefdelta.suite.adapters import ADAPTER
from prefdelta.suite.applying import with_adapter
from prefdelta.suite.loop import Progress
from prefdelta.suite.measure import Outcome, Trial, measure, write_outcomes
from prefdelta.suite.settings import Setting, settings_of
from prefdelta.suite.world import World

Inputs = Mapping[str, Artifact]
TEST = "test.safetensors"
ANCHORS = "anchors.json"
VALIDATION = "validation.json"
CHOSEN = "chosen.json"
SCORES = "scores.json"
_ROWS = "scores.jsonl"


def refer(work: Path, inputs: Inputs, recipe: SuiteRecipe, progress: Progress) -> None:
    """What merges are measured against: each adapter alone on its own task, and the bare backbone on all tasks.

    Writes validation accuracies, the anchors of the learned merges by objective, and outcomes on test items.
    """
    world = World(recipe, inputs)
    names = [task.name for task in recipe.tasks]
    validation = {trial.name: trial for trial in world.trials(names, "validation")}
    test = {trial.name: trial for trial in world.trials(names, "test")}
    joint = world.joint(list(test.values()))
    encoder, batch = world.encoder, recipe.evaluation_batch
    accuracies: dict[str, Outcome] = {}
    outcomes: dict[str, Outcome] = {}
    for number, (name, adapter) in enumerate(zip(names, world.adapters(names), strict=True)):
        with with_adapter(encoder.model, adapter) as model:
            accuracies |= measure(encoder, model, [validation[name]], None, batch=batch)
            outcomes |= measure(encoder, model, [test[name]], joint, batch=batch)
        progress(number + 1, len(names) + 2)
    write_json(work / VALIDATION, {name: outcome.accuracy for name, outcome in accuracies.items()})
    write_outcomes(work / TEST, outcomes)
    bare = measure(encoder, encoder.model, list(test.values()), joint, batch=batch)
    write_outcomes(work / "bare.safetensors", bare)
    anchors = {
        objective: find_anchors(encoder.model, world.adapters(names), world.learning_tasks(names, batch, objective))
        for objective in objectives(recipe)
    }
    write_json(work / ANCHORS, anchors)


def objectives(recipe: SuiteRecipe) -> list[ClassifierObjective]:
    """The objectives that the suite's learned merges have."""
    return sorted({method.objective for method in recipe.methods if isinstance(method, LearnedMethod)})


def tune(
    work: Path, inputs: Inputs, recipe: SuiteRecipe, method: MergeMethod | LearnedMethod, progress: Progress
) -> None:
    """Every setting of a method on validation items -> ``scores.json``, and the best one, ``chosen.json``.

    The score is the mean over tasks of the accuracy as a share of the own adapter's. Of equal scores the first
    counts. Learned merges are kept in ``learned/``. Resumes after the last setting that was finished.
    """
    world = World(recipe, inputs)
    names = [task.name for task in recipe.tasks]
    trials = world.trials(names, "validation")
    single = _read(inputs["references"], VALIDATION)
    settings = settings_of(method)
    done = _lines(work / _ROWS)
    made: tuple[Setting, Adapter | MemoryAdapter] | None = None
    for number, setting in enumerate(settings):
        if number >= len(done):
            if made is None or made[0] != setting.direction:
                folder = work / "learned" / f"{setting.learning_rate:g}" if setting.learning_rate else None
                made = setting.direction, _direction(world, names, method, setting, folder, progress)
            row = _score(world, trials, made[1], setting, single)
            with (work / _ROWS).open("a", encoding="utf-8") as handle:
                handle.write(to_json(row) + "\n")
            done.append(row)
        progress(number + 1, len(settings))
    write_json(work / SCORES, done)
    best = max(range(len(done)), key=lambda place: (done[place]["score"], -place))
    write_json(work / CHOSEN, {"place": best, **done[best]})
    (work / _ROWS).unlink()


def make_merge(
    work: Path,
    inputs: Inputs,
    recipe: SuiteRecipe,
    method: MergeMethod | LearnedMethod,
    names: Sequence[str],
    progress: Progress,
    *,
    reuse: bool,
) -> None:
    """The merge of some tasks' adapters at the chosen setting -> ``adapter/``, before its scale.

    Args:
        work: the working folder.
        inputs: the world's, ``tuning`` and ``references``.
        recipe: the suite.
        method: what to merge with.
        names: the tasks whose adapters are merged.
        progress: of learning.
        reuse: tuning made this very merge: take a learned one from there.
    """
    setting = chosen(inputs["tuning"], method)
    world = World(recipe, inputs)
    target = work / ADAPTER
    if isinstance(method, LearnedMethod):
        if reuse:
            shutil.copytree(
                inputs["tuning"].path / "learned" / f"{setting.learning_rate:g}", target, dirs_exist_ok=True
            )
        else:
            _learned(world, names, method, setting, target, progress)
        return
    merge(
        [adapter.path for adapter in world.adapters(names)], target, method=method.merge, options=dict(setting.options)
    )


def test_merge(
    work: Path, inputs: Inputs, recipe: SuiteRecipe, method: MergeMethod | LearnedMethod, names: Sequence[str]
) -> None:
    """A merge at its chosen scale on the test items of some tasks -> outcomes."""
    world = World(recipe, inputs)
    trials = world.trials(names, "test")
    every = world.joint(world.trials([task.name for task in recipe.tasks], "test"))
    scale = chosen(inputs["tuning"], method).scale
    adapter = Adapter.open(inputs["merge"].path / ADAPTER)
    with with_adapter(world.encoder.model, adapter, scale) as model:
        write_outcomes(work / TEST, measure(world.encoder, model, trials, every, batch=recipe.evaluation_batch))


def prefer(
    work: Path, inputs: Inputs, recipe: SuiteRecipe, method: LearnedMethod, weight: float, progress: Progress
) -> None:
    """A learned merge under a preference for one task -> its adapter and its outcomes on all test items."""
    assert recipe.preference is not None
    names = [task.name for task in recipe.tasks]
    rest = (1 - weight) / (len(names) - 1)
    preference = tuple(weight if name == recipe.preference.task else rest for name in names)
    steered = method.model_copy(update={"learning": method.learning.model_copy(update={"preference": preference})})
    setting = chosen(inputs["tuning"], method)
    world = World(recipe, inputs)
    _learned(world, names, steered, setting, work / ADAPTER, progress)
    with with_adapter(world.encoder.model, Adapter.open(work / ADAPTER), setting.scale) as model:
        outcomes = measure(world.encoder, model, world.trials(names, "test"), None, batch=recipe.evaluation_batch)
    write_outcomes(work / TEST, outcomes)


def chosen(tuning: Artifact, method: MergeMethod | LearnedMethod) -> Setting:
    """The setting that validation chose."""
    return settings_of(method)[int(_read(tuning, CHOSEN)["place"])]


def _direction(
    world: World,
    names: Sequence[str],
    method: MergeMethod | LearnedMethod,
    setting: Setting,
    folder: Path | None,
    progress: Progress,
) -> Adapter | MemoryAdapter:
    if isinstance(method, LearnedMethod):
        assert folder is not None
        _learned(world, names, method, setting, folder, progress)
        return Adapter.open(folder)
    return merge_in_memory(world.adapters(names), method=method.merge, options=dict(setting.options))


def _learned(
    world: World, names: Sequence[str], method: LearnedMethod, setting: Setting, folder: Path, progress: Progress
) -> None:
    assert setting.learning_rate is not None
    anchors = _read(world.inputs["references"], ANCHORS)[method.objective]
    learn(
        world.encoder.model,
        world.adapters(names),
        world.learning_tasks(names, method.batch_size, method.objective),
        method=method.learn,
        folder=folder,
        settings=method.learning.model_copy(update={"learning_rate": setting.learning_rate}),
        anchors={name: anchors[name] for name in names},
        identity=digest({label: artifact.content for label, artifact in world.inputs.items()}),
        progress=progress,
    )


def _score(
    world: World,
    trials: Sequence[Trial],
    adapter: Adapter | MemoryAdapter,
    setting: Setting,
    single: Mapping[str, float],
) -> dict[str, Any]:
    with with_adapter(world.encoder.model, adapter, setting.scale) as model:
        outcomes = measure(world.encoder, model, trials, None, batch=world.recipe.evaluation_batch)
    accuracy = {name: outcome.accuracy for name, outcome in outcomes.items()}
    shares = normalised_accuracy(accuracy, single)
    return {"setting": setting.label, "score": sum(shares.values()) / len(shares), "accuracy": accuracy}


def _read(artifact: Artifact, name: str) -> dict[str, Any]:
    return dict(json.loads((artifact.path / name).read_text(encoding="utf-8")))


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
