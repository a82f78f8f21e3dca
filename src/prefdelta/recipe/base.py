"""What every kind of recipe says about itself."""

from __future__ import annotations

from pydantic import Field

from prefdelta.recipe.config import NAME, Config


class BaseRecipe(Config):
    """A whole run. Each kind adds its own keys, and fixes ``kind`` to its own name."""

    kind: str
    name: str = Field(pattern=NAME)
    description: str = ""
