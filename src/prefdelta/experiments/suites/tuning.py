"""The units that tune a suite's merges: what they are measured against, every setting on validation, the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from prefdelta.adapters import Adapter, LoraAdapter
from prefdelta.adapters.applied import adapted
from prefdelta.core.files import write_json
from prefdelta.core.records import digest
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.store import Artifact
from prefdelta.experiments.suites.accuracy_tables import normalised_accuracy
from prefdelta.experiments.suites.measure import Outcome, Trial, measure, write_outcomes
from prefdelta.experiments.suites.suite_context import SuiteContext
from prefdelta.experiments.suites.suite_inputs import SuiteInputs
from prefdelta.experiments.unit import Inputs, Progress, RunContext, Unit
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.merging.learned.learn import learn
from prefdelta.merging.learned.tasks import find_anchors
from prefdelta.merging.tuning.choice import choose
from prefdelta.recipe.suite import LearnedMethod, SuiteMergeMethod, TriedMethod

TEST = "test.safetensors"
BARE = "bare.safetensors"
ANCHORS = "anchors.json"
VALIDATION = "validation.json"
CHOSEN = "chosen.json"
SCORES = "scores.json"
_ROWS = "scores.kept-rows"


def references(suite: SuiteContext, seed: int) -> Unit:
    """What merges are measured against: each adapter alone on its own task, and the bare backbone on all tasks.

    Writes validation accuracies, the anchors of the learned merges by objective, and outcomes on test items.
    """
    recipe, names = suite.recipe, suite.names
    objectives = sorted({method.objective for method in recipe.methods if isinstance(method, LearnedMethod)})

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        loaded = SuiteInputs(recipe, inputs)
        validation, test = loaded.trials(names, "validation"), loaded.trials(names, "test")
        joint = loaded.joint(test)
        encoder, adapters, batch = loaded.encoder, loaded.adapters(names), recipe.evaluation_batch
        accuracies: dict[str, Outcome] = {}
        outcomes: dict[str, Outcome] = {}
        for number, adapter in enumerate(adapters):
            with adapted(encoder.model, adapter, heads=False) as model:
                accuracies |= measure(encoder, model, [validation[number]], None, batch=batch)
                outcomes |= measure(encoder, model, [test[number]], joint, batch=batch)
            context.progress(number + 1, len(names) + 2)
        write_json(work / VALIDATION, {name: outcome.accuracy for name, outcome in accuracies.items()})
        write_outcomes(work / TEST, outcomes)
        write_outcomes(work / BARE, measure(encoder, encoder.model, test, joint, batch=batch))
        anchors = {
            objective: find_anchors(encoder.model, adapters, loaded.learning_tasks(names, batch, objective))
            for objective in objectives
        }
        write_json(work / ANCHORS, anchors)

    return suite.unit(
        f"references/{seed}",
        config={"tasks": names, "objectives": objectives},
        inputs=suite.inputs(seed),
        make=make,
    )


def tuning(suite: SuiteContext, method: SuiteMergeMethod) -> Unit:
    """Every setting of a method on validation items -> ``scores.json``, and the best one, ``chosen.json``.

    The score is the mean over tasks of the accuracy as a share of the own adapter's. Of equal scores the first
    counts. Learned merges are kept in ``learned/``. Resumes after the last setting that was finished.
    """
    recipe, names, seed = suite.recipe, suite.names, suite.recipe.seeds[0]

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        loaded = SuiteInputs(recipe, inputs)
        trials = loaded.trials(names, "validation")
        single = inputs["references"].json(VALIDATION)
        settings = settings_of(method)
        rows = ResumableRows(work / _ROWS)
        made: tuple[Setting, LoraAdapter] | None = None
        for number, setting in enumerate(settings):
            if str(number) not in rows.found:
                if made is None or made[0] != setting.direction:
                    made = setting.direction, _merged(loaded, names, method, setting, work, context.progress)
                rows.add([(str(number), _score(loaded, trials, made[1], setting, single))])
            context.progress(number + 1, len(settings))
        done = [rows.found[str(number)] for number in range(len(settings))]
        write_json(work / SCORES, done)
        scores = {number: float(row["score"]) for number, row in enumerate(done)}
        choice = choose(scores, lambda number: (settings[number].direction, settings[number].scale))
        write_json(work / CHOSEN, {"place": choice.best, "edge": choice.edge, **done[choice.best]})

    return suite.unit(
        f"tuning/{method.called}",
        config={"method": method, "tasks": names},
        inputs=suite.inputs(seed) | {"references": f"references/{seed}"},
        make=make,
        steps=method.learning.steps * len(method.learning_rates) if isinstance(method, LearnedMethod) else 0,
    )


@dataclass(frozen=True)
class Setting:
    """One setting. ``scale`` is applied to the finished merge; the rest decides its direction.

    Attributes:
        scale: λ.
        options: of a data-free merge, as sorted pairs.
        learning_rate: of a learned merge.
    """

    scale: float
    options: tuple[tuple[str, Any], ...] = ()
    learning_rate: float | None = None

    @property
    def label(self) -> str:
        """A name that tells it from a method's other settings."""
        parts = [f"{name}={value}" for name, value in self.options]
        if self.learning_rate is not None:
            parts.append(f"lr={self.learning_rate:g}")
        return ",".join([*parts, f"scale={self.scale:g}"])

    @property
    def direction(self) -> Setting:
        """The same at scale 1: settings with one direction need one merge."""
        return Setting(1.0, self.options, self.learning_rate)


def settings_of(method: SuiteMergeMethod) -> list[Setting]:
    """All settings that a method tries, those of one direction in a row."""
    if isinstance(method, LearnedMethod):
        return [Setting(scale, learning_rate=rate) for rate in method.learning_rates for scale in method.scales]
    tried = method.tried
    return [
        Setting(scale, tuple(zip(sorted(tried), values, strict=True)))
        for values in product(*(tried[name] for name in sorted(tried)))
        for scale in method.scales
    ]


def chosen_setting(tuned: Artifact, method: SuiteMergeMethod) -> Setting:
    """The setting that validation chose."""
    return settings_of(method)[int(tuned.json(CHOSEN)["place"])]


def learned_folder(tuned: Path, setting: Setting) -> Path:
    """Where :func:`tuning` keeps the learned merge of a setting."""
    return tuned / "learned" / f"{setting.learning_rate:g}"


def learn_merge(
    loaded: SuiteInputs,
    names: Sequence[str],
    method: LearnedMethod,
    setting: Setting,
    folder: Path,
    progress: Progress,
) -> None:
    """Learn the merge of some tasks' adapters at a setting's learning rate; ``references`` must be among the inputs."""
    assert setting.learning_rate is not None
    anchors = loaded.inputs["references"].json(ANCHORS)[method.objective]
    learn(
        loaded.encoder.model,
        loaded.adapters(names),
        loaded.learning_tasks(names, method.batch_size, method.objective),
        method=method.learn,
        options=method.options,
        folder=folder,
        settings=method.learning.model_copy(update={"learning_rate": setting.learning_rate}),
        anchors={name: anchors[name] for name in names},
        identity=digest({label: artifact.content for label, artifact in loaded.inputs.items()}),
        progress=progress,
    )


def _merged(
    loaded: SuiteInputs,
    names: Sequence[str],
    method: SuiteMergeMethod,
    setting: Setting,
    work: Path,
    progress: Progress,
) -> LoraAdapter:
    """The merge of one direction, before its scale."""
    if isinstance(method, TriedMethod):
        return merge_in_memory(loaded.adapters(names), method=method.name, options=dict(setting.options))
    folder = learned_folder(work, setting)
    learn_merge(loaded, names, method, setting, folder, progress)
    return Adapter.open(folder)


def _score(
    loaded: SuiteInputs,
    trials: Sequence[Trial],
    adapter: LoraAdapter,
    setting: Setting,
    single: Mapping[str, float],
) -> dict[str, Any]:
    with adapted(loaded.encoder.model, adapter, setting.scale, heads=False) as model:
        outcomes = measure(loaded.encoder, model, trials, None, batch=loaded.recipe.evaluation_batch)
    accuracy = {name: outcome.accuracy for name, outcome in outcomes.items()}
    shares = normalised_accuracy(accuracy, single)
    return {"setting": setting.label, "score": sum(shares.values()) / len(shares), "accuracy": accuracy}
