"""What every kind of recipe says about itself."""

from __future__ import annotations

from pydantic import Field

from prefdelta.core.config import Config
from prefdelta.core.folder_names import PlainName


class Resources(Config):
    """What a unit of a stage needs on a cluster.

    Attributes:
        gpus: GPUs that it alone sees, as many as its engine works on together.
        cpus: processor cores.
    """

    gpus: int = Field(default=0, ge=0, le=64)
    cpus: int = Field(default=1, ge=1, le=1024)


class BaseRecipe(Config):
    """A whole run. Each kind adds its own keys, and fixes ``kind`` to its own name."""

    kind: str
    name: PlainName
    description: str = ""
    resources: dict[str, Resources] = Field(default_factory=dict)
    """Stage -> what its units need on a cluster. Without an entry: one core, and a GPU where a model is loaded and the
    cluster has any. No result depends on it."""
