"""What all recipes, reports and results have in common: frozen, and no key that they do not know."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from prefdelta.core.errors import PrefdeltaError


class Frozen(BaseModel):
    """Base of what is read or written whole: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Config(Frozen):
    """Base of all recipe models: a number that is not finite is an error as well."""

    model_config = ConfigDict(allow_inf_nan=False)


AnyConfig = TypeVar("AnyConfig", bound=Config)


def configure(model: type[AnyConfig], raw: Mapping[str, Any], *, origin: str) -> AnyConfig:
    """Validate a mapping as one of the models of this module; ``origin`` names it in error messages.

    Raises:
        PrefdeltaError: a key or value is wrong.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise PrefdeltaError(f"{origin}: {_first_problem(error, model, raw)}") from error


def _first_problem(error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any]) -> str:
    # A misspelt key often makes the right one "missing" as well; the misspelling is what to tell.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(_keys(problem["loc"], raw, missing=problem["type"] == "missing"))
    others = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        near = difflib.get_close_matches(key, sorted(_known_keys(model) - {key}), n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"unknown key {where!r}{hint}{others}"
    message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{where or 'recipe'}: {message[0].lower() + message[1:]}.{others}"


def _keys(loc: Sequence[int | str], raw: Any, *, missing: bool) -> list[str]:
    """The keys on the way to a problem; the parts of ``loc`` that name branches of a union are left out."""
    keys: list[str] = []
    for part in loc:
        inside = isinstance(raw, Mapping) and part in raw
        inside |= isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw)
        if inside:
            raw = raw[part]
        elif not (missing and part == loc[-1]):
            continue
        keys.append(str(part))
    return keys


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


class Named(Config):
    """Something of a registry by its name, with its options: ``{name: ties, options: {density: 0.3}}``.

    A plain string is the name. The options are checked by the registered entry, when the plan is made.
    """

    name: str = Field(description="The registered name; a plain string in the whole's place is the name.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Its options by name, checked when the plan is made."
    )

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.options))))

    @field_validator("options")
    @classmethod
    def _in_order(cls, given: dict[str, Any]) -> dict[str, Any]:
        # A run's folder keeps its recipe with sorted keys; a report written from it shall be the same.
        return dict(sorted(given.items()))

    @model_validator(mode="before")
    @classmethod
    def _a_string_is_the_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value
