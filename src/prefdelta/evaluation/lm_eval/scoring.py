"""From an answer to a score, by lm_eval's own filters and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.records import Item, Sample
from prefdelta.core.thoughts import answer_start
from prefdelta.evaluation.lm_eval.collecting import Asked
from prefdelta.evaluation.lm_eval.language_models import Repeater
from prefdelta.evaluation.lm_eval.loading import INVALID, evaluated
from prefdelta.evaluation.scoring import Score, answer_text
from prefdelta.recipe import LmEval


class HarnessScorer:
    """Scores answers to the items of lm_eval tasks.

    A thought is no answer: only what comes after ``</think>`` is shown to lm_eval, and of a thought that was not
    finished nothing is. (lm_eval itself scores an unfinished thought as if it were an answer.)

    Args:
        tasks: the loaded tasks.
        asked: the questions that may come.
        settings: names the metric and filter that become the record's score; the first of each if left out.
    """

    def __init__(self, tasks: Mapping[str, Any], asked: Sequence[Asked], settings: LmEval) -> None:
        self._tasks = tasks
        self._asked = {entry.item.id: entry for entry in asked}
        self._settings = settings

    @property
    def name(self) -> str:
        """``lm_eval:TASK``, and the metric and filter if they were chosen."""
        chosen = [part for part in (self._settings.metric, self._settings.filter) if part is not None]
        return ",".join([f"lm_eval:{self._settings.task}", *chosen])

    def __call__(self, items: Sequence[Item], samples: Sequence[Sample]) -> list[Score]:
        """The scores, in order; other metrics and filters are in ``extra``, as ``METRIC,FILTER``."""
        asked = [self._asked[item.id] for item in items]
        texts = [shown_text(sample, entry.until) for entry, sample in zip(asked, samples, strict=True)]
        scores: dict[int, Score] = {}
        for name in dict.fromkeys(entry.task for entry in asked):
            # lm_eval goes through documents in their own order, whatever order they are asked for in.
            places = sorted(
                (place for place, entry in enumerate(asked) if entry.task == name),
                key=lambda place: asked[place].document,
            )
            documents = [asked[place].document for place in places]
            rows = self._evaluate(name, documents, [texts[place] for place in places])
            scores.update((place, self._score(name, rows[asked[place].document])) for place in places)
        return [scores[place] for place in range(len(items))]

    def _evaluate(self, name: str, documents: Sequence[int], texts: Sequence[str]) -> dict[int, list[dict[str, Any]]]:
        """Document -> one row per filter."""
        samples = evaluated(Repeater(texts), {name: self._tasks[name]}, {name: list(documents)})
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in samples[name]:
            rows.setdefault(int(row["doc_id"]), []).append(row)
        return rows

    def _score(self, name: str, rows: Sequence[dict[str, Any]]) -> Score:
        filters = [str(entry["filter"]) for entry in rows]
        row = rows[filters.index(_name("filter", self._settings.filter, filters))]
        metric = _name("metric", self._settings.metric, list(row["metrics"]))
        value = _number(row[metric])
        if value is None or not 0 <= value <= 1:
            raise PrefdeltaError(
                f"the metric {metric!r} of the lm_eval task {name!r} is {row[metric]!r} for one answer, not a number "
                "from 0 to 1; name another as lm_eval.metric."
            )
        extra = {
            f"{other},{entry['filter']}": number
            for entry in rows
            for other in entry["metrics"]
            if (number := _number(entry[other])) is not None
        }
        return Score(value, _parsed(row["filtered_resps"]), extra if len(extra) > 1 else {})


def shown_text(sample: Sample, until: Sequence[str]) -> str:
    """The answer without thoughts, cut at the first of the texts that the task stops at."""
    text = answer_text(sample)
    if answer_start(sample.own_text):
        text = text.lstrip()
    for stop in until:
        text = text.split(stop)[0] if stop else text
    return text


def _name(what: str, wanted: str | None, names: Sequence[str]) -> str:
    if wanted is None:
        return names[0]
    if wanted not in names:
        raise PrefdeltaError(f"lm_eval.{what}: there is no {what} {wanted!r}; {did_you_mean(wanted, names)}")
    return wanted


def _number(value: Any) -> float | None:
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def _parsed(filtered: Any) -> str | None:
    while isinstance(filtered, list | tuple) and filtered:
        filtered = filtered[0]
    text = "" if filtered is None or isinstance(filtered, list | tuple) else str(filtered)
    return None if text.strip() in ("", INVALID) else text
