"""An lm_eval task as a benchmark: its items, how its answers are drawn, and how they are scored."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, to_json
from prefdelta.evaluation.lm_eval.collecting import Asked, collect, sampling_of
from prefdelta.evaluation.lm_eval.loading import load_tasks
from prefdelta.evaluation.lm_eval.scoring import HarnessScorer
from prefdelta.recipe import LmEval, Sampling


@dataclass(frozen=True)
class Harness:
    """A loaded task, or group of tasks, and all its questions."""

    settings: LmEval
    tasks: dict[str, Any]
    asked: list[Asked]

    @property
    def items(self) -> list[Item]:
        """All questions, in lm_eval's order."""
        return [entry.item for entry in self.asked]

    @property
    def scorer(self) -> HarnessScorer:
        """Scores answers to the items."""
        return HarnessScorer(self.tasks, self.asked, self.settings)

    def sampling(self, default: Sampling) -> Sampling:
        """How the task wants its answers drawn, in batches as ``default`` has them."""
        return sampling_of(self.tasks, self.settings, default)


def load_harness(settings: LmEval) -> Harness:
    """Load a task and its questions, once per process and settings.

    Raises:
        PrefdeltaError: as :func:`~prefdelta.evaluation.lm_eval.loading.load_tasks`, or its questions cannot be made.
    """
    return _load(to_json(settings.model_dump(mode="json")))


@functools.lru_cache(maxsize=8)
def _load(settings: str) -> Harness:
    parsed = LmEval.model_validate_json(settings)
    tasks = load_tasks(parsed)
    try:
        return Harness(parsed, tasks, collect(tasks))
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise PrefdeltaError(
            f"the lm_eval task {parsed.task!r} cannot ask its questions ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}); correct its file, or the data."
        ) from error
