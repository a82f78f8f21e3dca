"""Running a plan: make what is missing, skip what is there, show how far it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import write_json
from prefdelta.core.manifests import SCHEMA
from prefdelta.core.outputs import check_place
from prefdelta.core.progress import Display
from prefdelta.core.records import digest
from prefdelta.core.regular import regular
from prefdelta.core.store import JOURNAL, Artifact, Store
from prefdelta.evaluation.results import RESULTS
from prefdelta.experiments.checking import checked
from prefdelta.experiments.execution.in_process import InProcess
from prefdelta.experiments.execution.processes import Processes
from prefdelta.experiments.execution.ray_cluster import RayCluster
from prefdelta.experiments.execution.scheduler import Executor, execute
from prefdelta.experiments.feasible import check_files
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.plan import FRONT, PICTURE, REPORT, TABLE, Plan
from prefdelta.experiments.published import RUN, published, published_damage, write_run
from prefdelta.experiments.room import check_room
from prefdelta.experiments.unit import RunContext
from prefdelta.recipe import RECIPE, BaseRecipe, configure_recipe


def run_recipe(
    recipe: BaseRecipe,
    root: Path | str,
    *,
    console: Console | None = None,
    workers: int = 1,
    executor: str = "local",
    cache: Path | None = None,
) -> Path:
    """Run a recipe from prompts to report; continue where an earlier run of it stopped.

    Args:
        recipe: what to run.
        root: the run directory, or the address of one on a store (``s3://…``, any that fsspec knows). Finished
            artifacts in it whose inputs and settings are unchanged are kept.
        console: where progress is shown; nothing is shown if it is ``None``.
        workers: how many processes share the work, each on a GPU of its own where there are any; with 1, this one
            does it all. They import the calling script, which must start nothing when it is imported.
        executor: ``local``; or ``ray`` or ``ray:ADDRESS``, the tasks of a Ray cluster, whose nodes see ``root`` under
            the same path and have the same prefdelta; ``workers`` is not used then.
        cache: where the copies of runs on stores lie; if left out, ``runs`` in
            :func:`prefdelta.core.files.cache_folder`.

    Returns:
        The path of ``report.html``, on this machine; ``results.json`` is in the same folder.

    Raises:
        PrefdeltaError: the recipe asks for something that is not there, a stage refuses its input, or another process
            is at work in ``root``.
    """
    store = open_run(root, cache)
    check_run_directory(store)
    recipe = checked(recipe)  # its folder keeps what was meant, defaults filled in
    plan = plan_for(recipe, store.root)
    check_files(recipe, plan.units)
    check_room(recipe)
    make_units = _executor(recipe, executor, workers)
    with store.locked():
        write_run(store.root)
        write_json(store.root / RECIPE, recipe.model_dump(mode="json"))
        store.share(RUN, RECIPE)
        store.log(event="started", recipe=recipe.name, plan=digest([unit.name for unit in plan.units]))
        with Display(console, len(plan.units)) as display:
            store.told = display.tell
            for sentence in plan.warnings:
                display.tell(f"warning: {sentence}")
            artifacts = execute(plan.units, store, make_units(store, display), display)
            store.discard_shards()
        report = _published(plan, store, {name: store.at_hand(name, made) for name, made in artifacts.items()})
        store.share()
        store.log(event="finished", recipe=recipe.name)
    return report


def _executor(recipe: BaseRecipe, named: str, workers: int) -> Callable[[Store, Display], Executor]:
    """Where units are made, by the name that a user gives."""
    kind, _, address = named.partition(":")
    if kind == "ray":
        return lambda store, display: RayCluster(recipe, store, address or None)
    if named != "local":
        raise PrefdeltaError(f"there is no executor {named!r}; choose local, ray or ray:ADDRESS.")
    if workers > 1:
        return lambda store, display: Processes(recipe, store, workers)
    return lambda store, display: InProcess(store, RunContext(display.inner, display.tell))


def open_run(root: Path | str, cache: Path | None = None) -> Store:
    """The store of a run directory on a disk, or below a URL, whose copies lie in ``cache``.

    Raises:
        PrefdeltaError: what the address needs is not installed.
    """
    if isinstance(root, str) and "://" in root:
        from prefdelta.core.remote.store import RemoteStore  # here, as most runs need no file system but the disk's

        return RemoteStore(root, cache)
    return Store(Path(root))


def check_run_directory(store: Store) -> None:
    """Refuse to run in a folder that is not a run's of this version, nor new.

    Raises:
        PrefdeltaError: it is a link, the current or the home folder or a parent of one, holds other files, or was made
            by an older prefdelta.
    """
    check_place(store.root)
    if store.names():
        _check_version(store)


def _check_version(store: Store) -> None:
    try:
        text = store.read(RUN)
        if text is not None:
            schema = json.loads(text.decode("utf-8"))["schema"]
        else:
            schema = 1 if store.read(RECIPE) is not None and store.read(JOURNAL) is not None else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PrefdeltaError(
            f"{store.shown}/{RUN} is damaged ({error}); run the recipe into another folder."
        ) from error
    if schema is None:
        raise PrefdeltaError(f"{store.shown} holds files that no run of prefdelta wrote; choose another folder.")
    if schema != SCHEMA:
        age = "an older" if schema == 1 else "another"
        raise PrefdeltaError(
            f"the run in {store.shown} was made by {age} version of prefdelta, which this one cannot continue; "
            "choose another folder, or use that version."
        )


def publish_again(root: Path) -> Path:
    """Write the results and the report of a finished run again, from its folder alone.

    Raises:
        PrefdeltaError: the folder holds no run, one that is not finished, or another recipe than the one that ran.
    """
    try:
        raw = json.loads(regular(root / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"{root} is not the folder of a run: it has no readable {RECIPE}.") from error
    store = Store(root)
    _check_version(store)
    if changed := [line for line in published_damage(root) if line.startswith(str(root / RECIPE))]:
        raise PrefdeltaError(f"{changed[0]}; run the recipe again, which writes it again.")
    if RECIPE not in published(root):  # what is there may have been made by another recipe than the one that is there
        raise PrefdeltaError(f"the run in {root} is not finished; run its recipe again.")
    plan = plan_for(configure_recipe(raw, origin=str(root / RECIPE)), root)
    artifacts = {unit.name: store.get(unit.name) for unit in plan.units}
    missing = [name for name, artifact in artifacts.items() if artifact is None]
    if missing:
        raise PrefdeltaError(f"the run in {root} is not finished ({missing[0]} is missing); run its recipe again.")
    return _published(plan, store, {name: artifact for name, artifact in artifacts.items() if artifact})


def _published(plan: Plan, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
    """Write what the plan has to say, and which files that are; returns the path of the report."""
    try:
        report = plan.publish(store, artifacts)
        write_run(store.root, RECIPE, RESULTS, REPORT, PICTURE, TABLE, FRONT)
    except OSError as error:
        raise PrefdeltaError(f"cannot write to {store.root}: {error.strerror or error}.") from error
    return report
