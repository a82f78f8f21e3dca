"""A learned merge of language models, from files: held-out pairs, given answers, or prompts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.adapters import Adapter
from prefdelta.adapters.applied import applied
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.core.names import tell_apart
from prefdelta.core.records import Demonstration, Example, Item, Sample, read_examples, read_some
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.responses import RESPONSES, sample_responses
from prefdelta.merging.learned.language import LABEL_FREE, check_objective, language_task
from prefdelta.merging.learned.learn import learn
from prefdelta.merging.learned.report import LearningReport
from prefdelta.recipe import Sampling
from prefdelta.recipe.learning import LanguageLearning, Learning
from prefdelta.training.loop import Progress


def learn_language_merge(
    loaded: LoadedModel,
    adapters: Sequence[Path],
    folder: Path,
    *,
    method: str,
    options: Mapping[str, Any] | None = None,
    settings: LanguageLearning,
    rows: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> LearningReport:
    """Learn a merge of adapters of a causal language model.

    With one file of rows there is one task, and what is learned is the merge that is best on it as a whole. With one
    file per adapter there is one task per adapter, anchored by what that adapter reaches alone, and the preference
    weighs them. With prompts there is one task per adapter too: its rows are the answers that the base with this
    adapter gives to them.

    Args:
        loaded: the base.
        adapters: folders of its adapters.
        folder: where results, and progress to go on from, are written.
        method: a name of :data:`prefdelta.merging.learned.methods.LEARNED`.
        options: the method's own options.
        settings: objective, optimiser, scalarisation.
        rows: files of pairs, or for objectives without labels of triples or demonstrations: one, or one per adapter.
        prompts: files of items to be answered instead, for objectives without labels: one, or one per adapter.
        seed: decides the order of the rows.
        progress: called with (done, total), of answers first and then of steps.

    Raises:
        PrefdeltaError: both or neither of rows and prompts, a number of files that fits no adapters, or bad content.
    """
    opened = [Adapter.open(path) for path in adapters]
    check_inputs(len(opened), rows, prompts, settings)
    if settings.start is None and settings.objective.name in LABEL_FREE:
        # Entropy falls as a merge grows, down to one answer to everything: it tells no scale.
        settings = settings.model_copy(update={"start": Learning().start})
    if len(rows) == 1:
        tasks = [language_task(rows[0].stem, read_examples(rows[0]), loaded, settings)]
    else:
        tasks = []
        labels = tell_apart([adapter.path for adapter in opened])
        for index, (label, adapter) in enumerate(zip(labels, opened, strict=True)):
            if rows:
                examples = read_examples(rows[index])
            else:
                items = read_some(prompts[index % len(prompts)], Item)
                own = folder / f"answers-{index}"
                examples = own_answers(loaded, adapter, items, settings.sampling, own, progress=progress)
            tasks.append(language_task(label, examples, loaded, settings, own=index, adapter=adapter))
    return learn(
        loaded.model,
        opened,
        tasks,
        method=method,
        options=options,
        folder=folder,
        settings=settings,
        seed=seed,
        progress=progress,
    )


def own_answers(
    loaded: LoadedModel,
    adapter: Adapter,
    items: Sequence[Item],
    sampling: Sampling,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> list[Example]:
    """What the base with one adapter answers to some items; the answers lie in ``folder``, from where a killed call
    goes on.
    """
    if not (folder / RESPONSES).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with applied(loaded, adapter.path, 1.0) as model:
            sampler = TransformersSampler(model, sampling, None)
            sample_responses(items, sampler, folder, sampling.seed, sampling.n, progress)
    prompts = {item.id: item for item in items}
    return [
        Demonstration(f"{sample.item}-{sample.index}", prompts[sample.item].task, prompts[sample.item].messages, sample)
        for sample in read_some(folder / RESPONSES, Sample)
    ]


def check_inputs(adapters: int, rows: Sequence[Path], prompts: Sequence[Path], settings: LanguageLearning) -> None:
    """Check the objective, and that the files are as many as it needs, before any model is loaded.

    Raises:
        PrefdeltaError: an unknown objective or option, both or neither of rows and prompts, a number of files that fits
            no adapters, or prompts for an objective that needs labels.
    """
    check_objective(settings)
    if bool(rows) == bool(prompts):
        raise PrefdeltaError("give either files of pairs or answers to learn from, or files of prompts.")
    if len(rows or prompts) not in (1, adapters):
        raise PrefdeltaError(
            f"{len(rows or prompts)} files were given for {adapters} adapters; give one, or one per adapter."
        )
    labelled = settings.objective.name not in LABEL_FREE
    if prompts and labelled:
        raise PrefdeltaError(
            f"objective {settings.objective.name!r} learns from pairs, which prompts are not; give pairs, or take the "
            "objective entropy or null-space."
        )
