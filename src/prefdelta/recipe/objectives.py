"""Options of an objective as keys of the section that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from prefdelta.core.config import Named


def unknown_keys_as_options(section: type[BaseModel], given: Any) -> Any:
    """A section's raw values, its unknown keys moved to the options of ``objective``: ``{objective: dpo, beta: 0.1}``.

    Raises:
        ValueError: an option is given both ways.
    """
    if not isinstance(given, Mapping):
        return given
    shorthand = {key: value for key, value in given.items() if key not in section.model_fields}
    if not shorthand:
        return given
    objective = given.get("objective", section.model_fields["objective"].default)
    named = objective if isinstance(objective, Named) else Named.model_validate(objective)
    if twice := sorted(shorthand.keys() & named.options.keys()):
        raise ValueError(f"{twice[0]} is given twice, here and under objective.options; keep one")
    return {
        **{key: value for key, value in given.items() if key not in shorthand},
        "objective": {"name": named.name, "options": {**named.options, **shorthand}},
    }
