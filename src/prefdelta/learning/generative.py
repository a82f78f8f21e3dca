"""A learned merge of language models, from files: held-out pairs, given answers, or prompts alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from prefdelta.adapter import Adapter
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.applying import applied
from prefdelta.learning.language import language_task
from prefdelta.learning.learn import learn
from prefdelta.learning.report import LearningReport
from prefdelta.merging.labels import tell_apart
from prefdelta.models import LoadedModel
from prefdelta.recipe import Sampling
from prefdelta.recipe.learning import LanguageLearning
from prefdelta.records import Demonstration, Example, Item, Pair, Sample, Triple, read_rows
from prefdelta.sampling.local import TransformersSampler
from prefdelta.sampling.responses import RESPONSES, sample_responses

Progress = Callable[[int, int], None]


def learn_language_merge(
    loaded: LoadedModel,
    adapters: Sequence[Path],
    folder: Path,
    *,
    method: str,
    settings: LanguageLearning,
    rows: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
    seed: int = 0,
    identity: str = "",
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
        method: a name of :data:`prefdelta.learning.methods.LEARNED`.
        settings: objective, optimiser, scalarisation.
        rows: files of pairs, or for objectives without labels of triples or demonstrations: one, or one per adapter.
        prompts: files of items to be answered instead, for objectives without labels: one, or one per adapter.
        seed: decides the order of the rows.
        identity: says which base and files these are.
        progress: called with (done, total), of answers first and then of steps.

    Raises:
        PrefdeltaError: both or neither of rows and prompts, a number of files that fits no adapters, or bad content.
    """
    opened = [Adapter.open(path) for path in adapters]
    _check(len(opened), rows, prompts, settings)
    if len(rows) == 1:
        tasks = [language_task(rows[0].stem, read_examples(rows[0]), loaded, settings)]
    else:
        tasks = []
        labels = tell_apart([adapter.path for adapter in opened])
        for index, (label, adapter) in enumerate(zip(labels, opened, strict=True)):
            if rows:
                examples = read_examples(rows[index])
            else:
                items = read_rows(prompts[index % len(prompts)], Item)
                own = folder / f"answers-{index}"
                examples = own_answers(loaded, adapter, items, settings.sampling, own, progress=progress)
            tasks.append(language_task(label, examples, loaded, settings, own=index, adapter=adapter))
    return learn(
        loaded.model,
        opened,
        tasks,
        method=method,
        folder=folder,
        settings=settings,
        seed=seed,
        identity=identity,
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
        for sample in read_rows(folder / RESPONSES, Sample)
    ]


def read_examples(path: Path) -> list[Example]:
    """Pairs, triples or demonstrations, whichever a JSON Lines file holds.

    Raises:
        PrefdeltaError: it holds none of them, or cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            first = json.loads(next((line for line in handle if line.strip()), "null"))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise PrefdeltaError(f"{path} is no file of JSON Lines ({error}).") from error
    keys = first if isinstance(first, dict) else {}
    if "chosen" in keys:
        return [*read_rows(path, Pair)]
    if "source" in keys:
        return [*read_rows(path, Triple)]
    if "response" in keys:
        return [*read_rows(path, Demonstration)]
    raise PrefdeltaError(f"{path} does not begin with a pair, a triple or a demonstration.")


def _check(adapters: int, rows: Sequence[Path], prompts: Sequence[Path], settings: LanguageLearning) -> None:
    if bool(rows) == bool(prompts):
        raise PrefdeltaError("give either files of pairs or answers to learn from, or files of prompts.")
    if len(rows or prompts) not in (1, adapters):
        raise PrefdeltaError(
            f"{len(rows or prompts)} files were given for {adapters} adapters; give one, or one per adapter."
        )
    labelled = settings.objective not in ("entropy", "null-space")
    if prompts and labelled:
        raise PrefdeltaError(
            f"objective {settings.objective!r} learns from pairs, which prompts are not; give pairs, or take the "
            "objective entropy or null-space."
        )
