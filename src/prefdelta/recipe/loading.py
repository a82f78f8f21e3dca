"""From a YAML file, and settings on the command line, to a recipe.

Relative paths in a recipe are relative to the recipe's own folder, those in a setting to where the command runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.regular import regular
from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.kinds import configure_recipe
from prefdelta.recipe.safe_yaml import MAX_BYTES, MAX_DEPTH, read_yaml


def load_recipe(
    path: Path, settings: Sequence[str] = (), folders: Mapping[str, Path] = MappingProxyType({})
) -> BaseRecipe:
    """Read and check a recipe.

    File paths inside that start with ``./`` or ``../`` are made absolute against the recipe's folder, those of settings
    against the current one.

    Args:
        path: the YAML file.
        settings: changes to it, each ``dotted.key=value`` with the value in YAML.
        folders: what stands for some folders beside the recipe: ``./NAME/…`` is then in the folder given for NAME.

    Raises:
        PrefdeltaError: the file is missing, is no YAML mapping, or a key or value is wrong; the message names the
            key by its dotted path and, for an unknown key, the nearest known one.
    """
    raw = read_yaml(_text(path), origin=str(path))
    if not isinstance(raw, dict):
        raise PrefdeltaError(f"{path} holds no mapping of recipe keys; see docs/recipes.md.")
    raw.pop("x-shared", None)  # a place for YAML anchors
    raw = _absolute(raw, path.resolve().parent, folders)
    for setting in settings:
        raw = _with_setting(raw, setting)
    return configure_recipe(_absolute(raw, Path.cwd(), {}), origin=str(path))


def _text(path: Path) -> str:
    try:
        with regular(path).open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise PrefdeltaError(f"no recipe at {path}.") from error
    except OSError as error:
        raise PrefdeltaError(f"cannot read the recipe {path}: {error.strerror or error}.") from error
    if len(content) > MAX_BYTES:
        raise PrefdeltaError(f"{path} has more than {MAX_BYTES:,} bytes, which no recipe has.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PrefdeltaError(f"the recipe {path} is not UTF-8 text: {error}.") from error


def settings_mapping(settings: Sequence[str]) -> dict[str, Any]:
    """The mapping that a list of ``dotted.key=value`` settings spells out."""
    raw: dict[str, Any] = {}
    for setting in settings:
        raw = _with_setting(raw, setting)
    return raw


_SHORT = {
    **dict.fromkeys(("student", "model", "weak", "weaker"), "path"),
    "lm_eval": "task",
    **dict.fromkeys(("objective", "rule", "scorer", "protocol", "retriever"), "name"),
}
"""Keys under which a plain string stands for a mapping with this key."""


def _with_setting(raw: Mapping[str, Any], setting: str) -> dict[str, Any]:
    key, separator, text = setting.partition("=")
    parts = key.split(".")
    if not separator or "" in parts or len(parts) > MAX_DEPTH:
        raise PrefdeltaError(f"--set {setting[:80]!r} is not of the form key=value.")
    value = read_yaml(text, origin=f"the value of --set {key}")
    changed = dict(raw)
    inner = changed
    for part in parts[:-1]:
        below = inner.get(part, {})
        if isinstance(below, str) and part in _SHORT:
            below = {_SHORT[part]: below}
        if not isinstance(below, Mapping):
            raise PrefdeltaError(f"--set {setting[:80]!r}: {part!r} holds no further keys.")
        inner[part] = dict(below)
        inner = inner[part]
    inner[parts[-1]] = value
    return changed


_PATH_KEYS = (
    "path",
    "source",
    "sources",
    "data",
    "corpus",
    "cache",
    "include_path",
    "activations",
    "student",
    "model",
    "weak",
    "weaker",
    "pairs",
    "tokenizer",
    "data_dir",
)


def _absolute(value: Any, folder: Path, folders: Mapping[str, Path], key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _absolute(entry, folder, folders, str(name)) for name, entry in value.items()}
    if isinstance(value, list):
        return [_absolute(entry, folder, folders, key) for entry in value]
    if isinstance(value, str) and key in _PATH_KEYS and value.startswith(("./", "../")):
        first, _, rest = value.removeprefix("./").partition("/")
        return str((folders[first] / rest if first in folders else folder / value).resolve())
    return value
