"""What all recipes, reports and results have in common: frozen, and no key that they do not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

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
        return f"unknown key {where!r}{_hint(key, model, problem['loc'][:-1])}{others}"
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


def _hint(key: str, root: type[BaseModel], loc: Sequence[int | str]) -> str:
    """What was meant: a key of the same mapping that is spelt alike, or this key elsewhere, or one alike there."""
    here = [root]
    for part in loc:  # a user's name, a place in a list or the branch of a union leads into no other model
        here = [
            inner
            for model in here
            if part in model.model_fields
            for inner in _models_in(model.model_fields[str(part)].annotation)
        ] or here
    places = _places(root)
    beside = _nearest(key, {name for model in here for name in model.model_fields})
    if beside is None and key in places:
        return f"; it belongs {places[key]}."
    near = beside or _nearest(key, places)
    return f"; did you mean {near!r}?" if near else "."


def _nearest(key: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)), None)


def _places(root: type[BaseModel]) -> dict[str, str]:
    """Every key of a model and of those in it, and in words where it belongs, nearest to the top."""
    places: dict[str, str] = {}
    pending = [("", root)]
    for path, model in pending:
        for name, info in model.model_fields.items():
            places.setdefault(name, f"under {path!r}" if path else "at the top")
            inside = ".".join(filter(None, (path, name, "NAME" if get_origin(info.annotation) is dict else "")))
            pending.extend((inside, part) for part in _models_in(info.annotation))
    return places


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
