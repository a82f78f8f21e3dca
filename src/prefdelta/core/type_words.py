"""The type of a setting in words, with the limits of its values: ``number, above 0, at most 1``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Path: "path",
    Any: "anything",
}
_BOUNDS = {
    "gt": "above {:g}",
    "ge": "at least {:g}",
    "lt": "below {:g}",
    "le": "at most {:g}",
    "min_length": "{} or more of them",
}


def type_words(
    annotation: Any,
    metadata: Sequence[Any] = (),
    model: Callable[[type[BaseModel]], str] = lambda each: each.__name__,
) -> str:
    """A type in words.

    Args:
        annotation: the type.
        metadata: limits of its values that stand beside it, as pydantic keeps them in a field.
        model: what to call a model.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(arguments[0], [*arguments[1:], *metadata], model)
    limits = [limit for each in metadata for limit in (each.metadata if isinstance(each, FieldInfo) else [each])]
    bounds = [
        words.format(bound)
        for limit in limits
        for name, words in _BOUNDS.items()
        if (bound := getattr(limit, name, None)) is not None
    ]

    def inner(each: Any) -> str:
        return type_words(each, (), model)

    return ", ".join([_kind(annotation, origin, arguments, inner, model), *dict.fromkeys(bounds)])


def _kind(
    annotation: Any,
    origin: Any,
    arguments: tuple[Any, ...],
    inner: Callable[[Any], str],
    model: Callable[[type[BaseModel]], str],
) -> str:
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(inner(each) for each in arguments if each is not NoneType)
    if origin in (tuple, list):
        return f"list of: {inner(arguments[0])}"
    if origin in (dict, Mapping):
        return f"{inner(arguments[0])} → {inner(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return model(annotation)
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))
