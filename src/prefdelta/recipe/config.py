"""What all recipe models have in common: they are frozen, and a key that they do not know is an error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from prefdelta.errors import PrefdeltaError

NAME = r"^[a-z0-9][a-z0-9._-]*$"
"""What names in a recipe look like: they become folder names."""


class Config(BaseModel):
    """Base of all recipe models: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnyConfig = TypeVar("AnyConfig", bound=Config)


def configure(model: type[AnyConfig], raw: Mapping[str, Any], *, origin: str) -> AnyConfig:
    """Validate a mapping as one of the models of this module; ``origin`` names it in error messages.

    Raises:
        PrefdeltaError: a key or value is wrong.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise PrefdeltaError(f"{origin}: {_first_problem(error, model)}") from error


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt key often makes the right one "missing" as well; the misspelling is what to tell.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
    others = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        near = difflib.get_close_matches(key, sorted(_known_keys(model) - {key}), n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"unknown key {where!r}{hint}{others}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where or 'recipe'}: {message[0].lower() + message[1:]}.{others}"


def _known_keys(root: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    pending: list[type[BaseModel]] = [root]
    while pending:
        for name, info in pending.pop().model_fields.items():
            keys.add(name)
            pending.extend(_models_in(info.annotation))
    return keys


def _models_in(annotation: Any) -> Sequence[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
