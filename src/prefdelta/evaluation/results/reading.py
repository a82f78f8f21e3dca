"""Reading typed results, with one sentence for what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.regular import regular
from prefdelta.evaluation.results.aggregation import AggregationResults
from prefdelta.evaluation.results.fusion import FusionResults
from prefdelta.evaluation.results.parts import SCHEMA
from prefdelta.evaluation.results.suite import SuiteResults

T = TypeVar("T")

RecipeResults: TypeAlias = AggregationResults | FusionResults | SuiteResults
"""What a finished recipe can have come to."""

_RECIPE_RESULTS: TypeAdapter[RecipeResults] = TypeAdapter(Annotated[RecipeResults, Field(discriminator="kind")])


def read_recipe_results(path: Path) -> RecipeResults:
    """Read the ``results.json`` of a finished recipe.

    Raises:
        PrefdeltaError: it cannot be read, is of another kind, or another version of prefdelta wrote it.
    """
    return read_as(path, _RECIPE_RESULTS, again="run `prefdelta report` on the run again.")


def read_as(path: Path, kinds: TypeAdapter[T], *, again: str) -> T:
    """Read a file of typed results as one of ``kinds``; ``again`` ends a message with how to write the file again.

    Raises:
        PrefdeltaError: it cannot be read, is of another kind, or another version of prefdelta wrote it.
    """
    try:
        raw = json.loads(regular(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise PrefdeltaError(f"{path} cannot be read ({error}); {again}") from error
    layout = raw.get("schema") if isinstance(raw, dict) else None
    if layout != SCHEMA:
        raise PrefdeltaError(
            f"{path} has the layout {layout}, and this version of prefdelta reads layout {SCHEMA}; {again}"
        )
    try:
        return kinds.validate_python(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise PrefdeltaError(f"{path} cannot be read ({where}: {problem['msg']}); {again}") from error
