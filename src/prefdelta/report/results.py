"""All kinds of typed results in one union, told apart by ``kind``, and its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field, TypeAdapter

from prefdelta.evaluation.results import (
    AggregationResults,
    ComparisonResults,
    EvaluationResults,
    FusionResults,
    JudgedResults,
    SuiteResults,
    read_as,
)
from prefdelta.merging.learned.report import LearningReport
from prefdelta.merging.tuning.record import TuningRecord

AnyResults: TypeAlias = (
    AggregationResults
    | FusionResults
    | SuiteResults
    | EvaluationResults
    | ComparisonResults
    | JudgedResults
    | TuningRecord
    | LearningReport
)

_KINDS: TypeAdapter[AnyResults] = TypeAdapter(Annotated[AnyResults, Field(discriminator="kind")])


def read_results(path: Path) -> AnyResults:
    """Read a file of typed results of any kind: ``results.json``, ``judged.json``, ``learning.json`` and the others.

    Raises:
        PrefdeltaError: it cannot be read, or another version of prefdelta wrote it.
    """
    return read_as(path, _KINDS, again="write it again: `prefdelta report` does for a run, its own command for others.")


def results_schema() -> str:
    """The JSON Schema of all kinds, as ``docs/results.schema.json`` has it."""
    schema = _KINDS.json_schema(by_alias=True)
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
