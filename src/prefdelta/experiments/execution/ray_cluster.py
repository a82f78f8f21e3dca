"""The executor of a Ray cluster: every unit a task, placed by what its stage needs.

Only names and hashes travel; artifacts lie in the run directory, which every node must see under the same path, or
below a URL. Units can be made again and continue from what a lost worker left, so Ray's own retries are off and the
scheduler decides.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from types import ModuleType
from typing import Any

import torch

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.progress import warn_in_words
from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.execution.scheduler import Came, Executor, Failed, Lost, News, Refused, Told
from prefdelta.experiments.unit import Unit
from prefdelta.recipe import BaseRecipe, Resources

_PATIENCE = 30.0
"""Seconds that a task has to end in when it is told to; a step of a training may be under way."""

_GONE = 15.0
"""Seconds without an answer after which the head is given up: Ray's own library ends this process after 60."""

_POLL = 0.5
"""Seconds between two looks at how far the tasks have come."""

_MODEL_STAGES = ("responses", "scores", "together", "adapters", "validation", "test", "watch")
"""The stages that load a model: they get a GPU each where the cluster has any."""

_PACKAGES = ("prefdelta", "torch", "transformers", "peft")
"""What decides the bytes of a unit's artifact, beside its inputs: equal on every node."""


class RayCluster(Executor):
    """Makes units as tasks of a Ray cluster; all that are ready are handed out, and Ray places them.

    Args:
        recipe: what is run; its ``resources`` say what a unit of a stage needs.
        store: the run directory, under the same path on every node, or below a URL.
        address: of the cluster, as ``ray.init`` takes it; without one, that of ``RAY_ADDRESS``, a cluster that runs on
            this machine, or a new one of this machine alone.

    Raises:
        PrefdeltaError: Ray is not installed, or no cluster is reached.
    """

    lanes = 8

    def __init__(self, recipe: BaseRecipe, store: Store, address: str | None = None) -> None:
        self._ray = ray = _imported()
        self._recipe = recipe
        self._store = store
        self._tasks: dict[Any, str] = {}  # reference -> unit
        self._remote: dict[Resources, Any] = {}  # what a unit needs -> the task that gets it
        self._told: list[News] = []  # by this executor itself
        self._asked: Any = None  # the board, for what it has heard
        at_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            quiet = {"include_dashboard": False} if address is None else {}
            ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="prefdelta", **quiet)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise PrefdeltaError(
                f"cannot reach a Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}; start "
                "it, and where it wants a token, copy its head's ~/.ray/auth_token here."
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_sigterm)  # Ray's own would end the command without a word
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        board = ray.remote(num_cpus=0, max_restarts=0)(_Board)
        self._board = board.options(scheduling_strategy=here).remote()
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._head = _Head(ray.get_runtime_context().gcs_address)

    def close(self) -> None:
        """End what is under way."""
        ray = self._ray
        try:
            if self._tasks and self._head.answers():
                for task in self._tasks:
                    ray.cancel(task)  # raises KeyboardInterrupt in it, which lets a unit clean up
                _, left = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=_PATIENCE)
                for task in left:
                    ray.cancel(task, force=True)
        except ray.exceptions.RayError:
            pass  # the cluster is gone, and the tasks with it
        finally:
            ray.shutdown()

    def free(self) -> bool:
        """Whether another unit can be handed out."""
        return True

    def submit(self, unit: Unit, inputs: Mapping[str, Artifact]) -> None:
        """Take a unit and its inputs' artifacts."""
        needs = self._needs(unit)
        if needs not in self._remote:  # Ray stores each with the head, which may be gone when the next is handed out
            self._remote[needs] = self._ray.remote(
                num_cpus=needs.cpus,
                num_gpus=needs.gpus,
                max_retries=0,
                # Every GPU task has a process of its own, so that its memory is returned.
                max_calls=1 if needs.gpus else 0,
                scheduling_strategy="SPREAD",
            )(_make)
            if not any(_has(node, needs) for node in self._nodes):
                told = f"no node of the Ray cluster has what {unit.name} needs ({needs.cpus} cores, {needs.gpus} GPUs)"
                self._told.append(Told(unit.name, f"{told}: it waits for one (resources.{unit.stage})."))
        reference = self._remote[needs].remote(
            self._recipe, self._store, unit.name, dict(inputs), needs, torch.get_num_threads(), _versions(), self._board
        )
        self._tasks[reference] = unit.name

    def _needs(self, unit: Unit) -> Resources:
        if unit.shards:
            return Resources(gpus=0)  # what is left to do is to join them
        needs = self._recipe.resources.get(unit.stage, Resources())
        given = 1 if unit.stage in _MODEL_STAGES and any(node.get("GPU") for node in self._nodes) else 0
        return needs if needs.gpus is not None else needs.model_copy(update={"gpus": given})

    def news(self) -> Iterator[News]:
        """What has happened; waits until there is something."""
        ray = self._ray
        told, self._told = self._told, []
        yield from told
        try:
            done, _ = ray.wait(list(self._tasks), num_returns=1, timeout=_POLL)
            # Never waits for long: without a head an answer may not come at all.
            self._asked = self._asked or self._board.take.remote()
            answered, _ = ray.wait([self._asked], timeout=_GONE / 5)
            said = ray.get(answered[0]) if answered else []
            self._asked = None if answered else self._asked
        except ray.exceptions.RayError as error:
            raise _gone(type(error).__name__) from error
        self._head.check()
        yield from said
        for task in done:
            name = self._tasks.pop(task)
            try:
                yield ray.get(task)
            except ray.exceptions.RayTaskError as error:  # before the unit began: the task could not be set up there
                yield _not_set_up(name, error)
            except ray.exceptions.RayError as error:
                yield Lost(name, f"was lost ({type(error).__name__})")


def _has(node: Mapping[str, float], needs: Resources) -> bool:
    """Whether a unit can be made on a node with such resources."""
    return node.get("CPU", 0) >= needs.cpus and node.get("GPU", 0) >= (needs.gpus or 0)


class _Head:
    """The head of the cluster, as seen from here.

    Args:
        address: HOST:PORT of its global control store.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._place = (host.strip("[]"), int(port))
        self._seen = time.monotonic()

    def answers(self) -> bool:
        """Whether it takes a connection."""
        try:
            with socket.create_connection(self._place, timeout=2.0):
                self._seen = time.monotonic()
                return True
        except OSError:
            return False

    def check(self) -> None:
        """Raises PrefdeltaError: it has not answered for a while."""
        if not self.answers() and time.monotonic() - self._seen > _GONE:
            raise _gone("its head does not answer")


def _gone(why: str) -> PrefdeltaError:
    return PrefdeltaError(f"the Ray cluster is gone ({why}); start it and run the recipe again to continue.")


def _imported() -> ModuleType:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise PrefdeltaError("--executor ray needs Ray: pip install 'prefdelta[ray]'.") from error
    return ray


def _not_set_up(name: str, error: Any) -> Refused | Failed:
    """Why a task ended with an error that is none of its unit's."""
    cause = error.cause
    if isinstance(cause, PrefdeltaError):
        return Refused(name, str(cause))
    if isinstance(cause, ImportError):
        told = f"a node of the Ray cluster cannot make {name}: {cause}; install the same prefdelta on every node."
        return Refused(name, told)
    return Failed(name, f"{type(cause).__name__}: {cause}", traceback=str(error))


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


class _Board:
    """An actor beside the scheduler to which tasks say how far they have come."""

    def __init__(self) -> None:
        self._news: dict[str, list[News]] = {}

    def post(self, news: News) -> None:
        said = self._news.setdefault(news.unit, [])
        if isinstance(news, Came) and said and isinstance(said[-1], Came):
            said.pop()
        said.append(news)

    def take(self) -> list[News]:
        taken = [news for said in self._news.values() for news in said]
        self._news.clear()
        return taken


def _make(
    recipe: BaseRecipe,
    store: Store,
    name: str,
    inputs: Mapping[str, Artifact],
    needs: Resources,
    threads: int,
    versions: Mapping[str, str],
    board: Any,
) -> News:
    """The task: make one unit in this process of some node."""
    if not needs.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all GPUs visible to a task that asked for none
    other = {package: found for package, found in _versions().items() if found != versions[package]}
    if other:
        found = ", ".join(f"{package} {version} (not {versions[package]})" for package, version in other.items())
        return Refused(name, f"a node of the Ray cluster has {found}; install the same versions on every node.")
    if not store.seen():
        told = f"a node of the Ray cluster does not see {store.root}; put the run where all nodes see it, or on a store"
        return Refused(name, f"{told} (-o s3://BUCKET/RUN).")

    from prefdelta.experiments.execution.worker import Worker

    torch.set_num_threads(threads)  # results on a CPU depend on it
    warn_in_words()
    last = 0.0

    def report(news: News) -> None:
        nonlocal last
        if isinstance(news, Came) and time.monotonic() - last < _POLL and news.done < news.total:
            return
        last = time.monotonic()
        board.post.remote(news)

    return Worker(recipe, store, report).make(name, inputs)
