"""From a YAML file, and settings on the command line, to a recipe.

Relative paths in a recipe are relative to the recipe's own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.kinds import configure_recipe


def load_recipe(path: Path, settings: Sequence[str] = ()) -> BaseRecipe:
    """Read and check a recipe.

    File paths inside that start with ``./`` or ``../`` are made absolute against the recipe's folder.

    Args:
        path: the YAML file.
        settings: changes to it, each ``dotted.key=value`` with the value in YAML.

    Raises:
        PrefdeltaError: the file is missing, is no YAML mapping, or a key or value is wrong; the message names the
            key by its dotted path and, for an unknown key, the nearest known one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PrefdeltaError(f"no recipe at {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdeltaError(f"cannot read the recipe {path}: {error}.") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PrefdeltaError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(raw, dict):
        raise PrefdeltaError(f"{path} holds no mapping of recipe keys; see docs/recipes.md.")
    raw.pop("x-shared", None)  # a place for YAML anchors
    for setting in settings:
        raw = _with_setting(raw, setting)
    return configure_recipe(_absolute(raw, path.resolve().parent), origin=str(path))


def settings_mapping(settings: Sequence[str]) -> dict[str, Any]:
    """The mapping that a list of ``dotted.key=value`` settings spells out."""
    raw: dict[str, Any] = {}
    for setting in settings:
        raw = _with_setting(raw, setting)
    return raw


def _with_setting(raw: Mapping[str, Any], setting: str) -> dict[str, Any]:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise PrefdeltaError(f"--set {setting!r} is not of the form key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PrefdeltaError(f"--set {setting!r}: the value is not valid YAML.") from error
    first, _, rest = key.partition(".")
    if not rest:
        return {**raw, first: value}
    inner = raw.get(first, {})
    if not isinstance(inner, Mapping):
        raise PrefdeltaError(f"--set {setting!r}: {first!r} holds no further keys.")
    return {**raw, first: _with_setting(inner, f"{rest}={text}")}


_PATH_KEYS = (
    "path",
    "source",
    "sources",
    "data",
    "corpus",
    "cache",
    "include_path",
    "student",
    "model",
    "weak",
    "weaker",
)


def _absolute(value: Any, folder: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _absolute(entry, folder, str(name)) for name, entry in value.items()}
    if isinstance(value, list):
        return [_absolute(entry, folder, key) for entry in value]
    if isinstance(value, str) and key in _PATH_KEYS and value.startswith(("./", "../")):
        return str((folder / value).resolve())
    return value
