"""Making one unit's artifact."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.unit import RunContext, Unit


def reuse(unit: Unit, store: Store, artifacts: Mapping[str, Artifact]) -> Artifact | None:
    """The unit's artifact if it is there, made from just this, and every file is as it was written.

    Arguments are those of :func:`build`.
    """
    inputs = {label: artifacts[source] for label, source in unit.inputs.items()}
    return store.reuse(unit.name, stage=unit.stage, config=_config(unit), inputs=inputs)


def build(
    unit: Unit,
    store: Store,
    artifacts: Mapping[str, Artifact],
    context: RunContext,
    *,
    overwrite: bool = True,
) -> Artifact:
    """Make one unit's artifact, from what an ended build of it left where the unit is resumable.

    Args:
        unit: what to make.
        store: where.
        artifacts: its inputs and shards, by the names of the units that made them.
        context: what units share.
        overwrite: whether an artifact that was made from something else is replaced, or refused.
    """
    inputs = {label: store.at_hand(source, artifacts[source]) for label, source in unit.inputs.items()}
    shards = {shard.name: store.at_hand(shard.name, artifacts[shard.name]) for shard in unit.shards}
    try:
        return store.build(
            unit.name,
            stage=unit.stage,
            config=_config(unit),
            inputs=inputs,
            make=lambda work: unit.make(work, {**inputs, **shards}, context),
            resume=unit.resumable,
            overwrite=overwrite,
        )
    except BaseException as error:
        ended = not isinstance(error, Exception)  # by Ctrl-C, or by a signal that this worker got
        event, known = "interrupted" if ended else "failed", ended or isinstance(error, PrefdeltaError)
        more = {} if known else {"traceback": "".join(traceback.format_exception(error))}
        with suppress(OSError):  # a full disk may be why it failed
            store.log(event=event, artifact=unit.name, error=f"{type(error).__name__}: {error}", **more)
        raise


def assist(unit: Unit, store: Store) -> None:
    """Take part in making a unit without inputs, in the working folder of the process that makes it."""
    if store.find(unit.name, stage=unit.stage, config=_config(unit), inputs={}) is None:
        unit.make(store.working(unit.name), {}, RunContext())


def _config(unit: Unit) -> dict[str, Any]:
    return {**unit.config, "externals": {label: hashed() for label, hashed in sorted(unit.externals.items())}}
