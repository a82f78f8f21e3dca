"""From an lm_eval task to items: what exactly is asked, with which settings, and what the answer should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item
from prefdelta.evaluation.lm_eval.language_models import Collector
from prefdelta.evaluation.lm_eval.loading import BUDGETS, evaluated
from prefdelta.recipe import LmEval, Sampling

_KNOWN = {"until", "do_sample", "temperature", "top_p", "top_k", *BUDGETS}
_DEFAULT_TOKENS = 256  # lm_eval's own


@dataclass(frozen=True)
class Asked:
    """One question of a task.

    Attributes:
        item: the messages; its id is ``TASK/DOCUMENT-HASH``, its gold answer what lm_eval calls the target.
        task: the lm_eval task, one of a group's.
        document: the document's number in that task.
        until: texts at which the answer is cut.
    """

    item: Item
    task: str
    document: int
    until: tuple[str, ...]


def collect(tasks: Mapping[str, Any]) -> list[Asked]:
    """All questions of some tasks, in lm_eval's order."""
    collector = Collector()
    samples = evaluated(collector, tasks)
    asked = iter(collector.asked)
    found = []
    for name in tasks:
        # One sample per filter; the first filter's are all documents once.
        first = samples[name][0]["filter"]
        for sample in (entry for entry in samples[name] if entry["filter"] == first):
            found.append(_asked(name, sample, *next(asked)))
    return found


def sampling_of(tasks: Mapping[str, Any], settings: LmEval, default: Sampling) -> Sampling:
    """How the tasks' answers are drawn: greedily or as their ``generation_kwargs`` say; batches as elsewhere.

    Raises:
        PrefdeltaError: the tasks of a group differ in this, or have a setting that is not known here.
    """
    found = {_sampling(task.config.generation_kwargs or {}, default) for task in tasks.values()}
    if len(found) > 1:
        raise PrefdeltaError(
            f"the tasks of {settings.task!r} generate with different settings; name them as benchmarks of their own."
        )
    return found.pop()


def _sampling(generation: Mapping[str, Any], default: Sampling) -> Sampling:
    unknown = sorted(set(generation) - _KNOWN)
    if unknown:
        raise PrefdeltaError(f"the generation setting {unknown[0]!r} of an lm_eval task is not known here.")
    budgets = (generation.get(name) for name in BUDGETS)
    tokens = next((int(value) for value in budgets if value is not None), _DEFAULT_TOKENS)
    temperature = float(generation.get("temperature", 0.0)) if generation.get("do_sample", True) else 0.0
    return Sampling(
        temperature=temperature,
        top_p=float(generation.get("top_p", 1.0)),
        top_k=int(generation.get("top_k", 0)),
        max_new_tokens=tokens,
        batch_size=default.batch_size,
    )


def _asked(name: str, sample: Mapping[str, Any], messages: str, generation: Mapping[str, Any]) -> Asked:
    until = generation.get("until") or []
    target = sample["target"]
    golds = target if isinstance(target, list) else [target]
    item = Item(
        id=f"{name}/{sample['doc_id']}-{sample['doc_hash'][:8]}",
        task=name,
        messages=tuple(json.loads(messages)),
        answers=tuple(str(gold) for gold in golds),
    )
    return Asked(item, name, int(sample["doc_id"]), tuple([until] if isinstance(until, str) else until))
