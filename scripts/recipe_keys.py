"""The reference of recipe keys, made from the models that check recipes: type, limits, default and meaning of each.

Every key's sentence is the ``description`` of its field. The page is kept as ``docs/reference/recipe-keys.md``, and a
test says so when it is out of date.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prefdelta.core.type_words import type_words
from prefdelta.recipe import RECIPES

_TITLES = {
    "Recipe": "The recipe: aggregation",
    "FusionRecipe": "The recipe: fusion",
    "SuiteRecipe": "The recipe: suite",
    "ModelRef": "Model",
    "VllmOptions": "vLLM options",
    "Server": "Model behind a server",
    "Imported": "Answers that exist already",
    "Named": "Name with options",
    "Search": "Search engine",
    "LmEval": "Task of lm-eval",
    "HeldOutPairs": "Pairs as a benchmark",
    "Lora": "LoRA",
    "VitBackbone": "Backbone: vit",
    "BertBackbone": "Backbone: bert",
    "ClipBackbone": "Backbone: clip",
    "DecoderBackbone": "Backbone: language-model",
    "FileSource": "Task in files",
    "HubSource": "Task as a data set",
    "SuiteTask": "Task",
    "Limits": "Limits of a task",
}
"""What a model is called where the words of its class's name are not plain enough."""


def recipe_keys_page() -> str:
    """Every key of every kind of recipe, first what is special to a kind, then what the kinds share."""
    reached = {kind: list(dict.fromkeys(models_in(recipe))) for kind, recipe in RECIPES.items()}
    kinds_of: dict[type[BaseModel], list[str]] = {}
    for kind, models in reached.items():
        for model in models:
            kinds_of.setdefault(model, []).append(kind)
    parts = [
        "# Recipe keys\n",
        "Every key that a recipe may have, by kind of recipe. A key without a default must be given. What a recipe is, "
        "and how its keys are used, is told on the pages on [recipes](../recipes.md), [fusion](../wrpo.md) and "
        "[suites](../suites.md).\n",
    ]
    for kind in RECIPES:
        parts.append(f"## kind: {kind}\n")
        parts += [_section(model) for model in reached[kind] if kinds_of[model] == [kind]]
    parts.append("## Sections that several kinds share\n")
    parts += [
        f"{_section(model)}\nIn recipes of the kinds {', '.join(kinds)}.\n"
        for model, kinds in kinds_of.items()
        if len(kinds) > 1
    ]
    return "\n".join(parts)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of, each followed by those of its fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    else:
        for argument in get_args(annotation):
            yield from models_in(argument)


def title(model: type[BaseModel]) -> str:
    """What the section on a model is called."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__)
    return _TITLES.get(model.__name__, words.capitalize())


def _section(model: type[BaseModel]) -> str:
    about = (inspect.getdoc(model) or "").partition("\n")[0].replace("``", "`")
    rows = [_row(key, field) for key, field in model.model_fields.items()]
    table = "\n".join(["| key | type and limits | default | meaning |", "|---|---|---|---|", *rows])
    return f"### {title(model)}\n\n{about}\n\n{table}\n"


def _row(key: str, field: FieldInfo) -> str:
    kind = type_words(field.annotation, field.metadata, _linked)
    cells = (f"`{key}`", kind, _default(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "↵") for cell in cells) + " |"


def _linked(model: type[BaseModel]) -> str:
    return f"[{title(model)}](#{_anchor(title(model))})"


def _anchor(heading: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: Any) -> str:
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, BaseModel):
        given = {
            key: getattr(value, key)
            for key, field in type(value).model_fields.items()
            if field.is_required() or getattr(value, key) != field.get_default(call_default_factory=True)
        }
        if list(given) == ["name"]:
            return f"`{given['name']}`"
        return ", ".join(f"`{key}`: {_shown(each)}" for key, each in given.items()) or "its defaults"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(_shown(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{_shown(key)} → {_shown(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"`{value:.6g}`"
    return f"`{value}`"
