"""Several preferences, several merges: the front between tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import nn

from prefdelta.adapter import Adapter
from prefdelta.learning.learn import learn
from prefdelta.learning.optimise import Progress
from prefdelta.learning.report import LearningReport
from prefdelta.learning.tasks import Task, find_anchors
from prefdelta.recipe.learning import Learning


def sweep(
    model: nn.Module,
    adapters: Sequence[Adapter],
    tasks: Sequence[Task],
    preferences: Sequence[Sequence[float]],
    *,
    method: str,
    folder: Path | str,
    settings: Learning | None = None,
    seed: int = 0,
    identity: str = "",
    progress: Progress | None = None,
) -> list[LearningReport]:
    """Learn one merge per preference ρ, each into ``folder/NUMBER``; all else is the same, the anchors too.

    Arguments and errors are those of :func:`learn`; ``progress`` counts the steps of all merges. A killed sweep goes
    on where it stopped.
    """
    settings = settings or Learning()
    anchors = find_anchors(model, adapters, tasks)
    reports = []
    for number, preference in enumerate(preferences):

        def told(done: int, total: int, before: int = number) -> None:
            if progress is not None:
                progress(before * total + done, len(preferences) * total)

        reports.append(
            learn(
                model,
                adapters,
                tasks,
                method=method,
                folder=Path(folder) / str(number),
                settings=settings.model_copy(update={"preference": tuple(preference)}),
                seed=seed,
                anchors=anchors,
                identity=identity,
                progress=told,
            )
        )
    return reports


def towards(task: int, tasks: int, weights: Sequence[float]) -> list[tuple[float, ...]]:
    """Preferences that give one task each of ``weights`` in turn, and the others equal parts of the rest.

    >>> towards(0, 3, [0.2, 0.8])
    [(0.2, 0.4, 0.4), (0.8, 0.1, 0.1)]
    """
    return [
        tuple(weight if other == task else round((1 - weight) / (tasks - 1), 12) for other in range(tasks))
        for weight in weights
    ]


def grid(tasks: int, parts: int) -> list[tuple[float, ...]]:
    """All preferences whose weights are multiples of 1 / ``parts``, in lexical order.

    >>> grid(2, 2)
    [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]
    """

    def split(rest: int, places: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (rest,)
            return
        for first in range(rest + 1):
            for others in split(rest - first, places - 1):
                yield (first, *others)

    return [tuple(part / parts for part in counts) for counts in split(parts, tasks)]


def undominated(scores: Sequence[Mapping[str, float]]) -> list[bool]:
    """Which points no other one dominates: as good in every task and better in one. Larger is better.

    >>> undominated([{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}, {"a": 0.4, "b": 0.5}])
    [True, True, False]
    """

    def dominates(better: Mapping[str, float], worse: Mapping[str, float]) -> bool:
        return all(better[task] >= worse[task] for task in worse) and any(better[task] > worse[task] for task in worse)

    return [not any(dominates(other, score) for other in scores) for score in scores]
