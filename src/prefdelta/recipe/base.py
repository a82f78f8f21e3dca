"""What every kind of recipe says about itself."""

from __future__ import annotations

from pydantic import Field

from prefdelta.core.config import Config
from prefdelta.core.folder_names import PlainName


class Resources(Config):
    """What a unit of a stage needs on a cluster, and into how many shards it is divided."""

    gpus: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description=(
            "GPUs that a unit of the stage alone sees, as many as its engine works on together; if left out, one where "
            "a model is loaded and the cluster has any."
        ),
    )
    cpus: int = Field(default=1, ge=1, le=1024, description="Processor cores of a unit of the stage.")
    shards: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Parts that the requests of a unit of the stage are divided into, each a unit of its own.",
    )


class BaseRecipe(Config):
    """A whole run. Each kind adds its own keys, and fixes ``kind`` to its own name."""

    kind: str = Field(description="What the run is.")
    name: PlainName = Field(description="Names the run's folder: lower-case letters, digits, `.`, `_` and `-`.")
    description: str = Field(default="", description="A sentence for the report.")
    resources: dict[str, Resources] = Field(
        default_factory=dict,
        description=(
            "Stage → what its units need on a cluster; without an entry one core, and a GPU where a model is "
            "loaded and the cluster has any. No result depends on it."
        ),
    )
