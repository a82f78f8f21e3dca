"""A worker of another process: it plans the recipe anew, and makes the units that it is told by name.

Units are plain functions from artifacts to one artifact, so names and hashes are all that a worker needs; nothing is
shared with the scheduler but the run directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.execution.make import build
from prefdelta.experiments.execution.scheduler import Came, Failed, Made, News, Refused, Told
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.unit import RunContext
from prefdelta.recipe import BaseRecipe


class Worker:
    """Makes units of one recipe in one run directory.

    Args:
        recipe: the recipe.
        store: the run directory.
        report: is called with how far a unit has come and what it has to say.
    """

    def __init__(self, recipe: BaseRecipe, store: Store, report: Callable[[News], None]) -> None:
        units = plan_for(recipe, store.root).units
        self._units = {each.name: each for unit in units for each in (unit, *unit.shards)}
        self._name = ""
        self._context = RunContext(
            lambda done, total: report(Came(self._name, done, total)), lambda said: report(Told(self._name, said))
        )
        self._store = store
        store.told = self._context.tell

    def make(self, name: str, inputs: Mapping[str, Artifact]) -> Made | Refused | Failed:
        """Make a unit; an error is told, not raised, so that it reaches the user as itself."""
        self._name = name
        try:
            return Made(name, build(self._units[name], self._store, inputs, self._context))
        except PrefdeltaError as error:
            return Refused(name, str(error))
        except Exception as error:  # noqa: BLE001 (whatever it is, the scheduler tells it as itself)
            return Failed(name, f"{type(error).__name__}: {error}")
