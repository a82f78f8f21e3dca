"""A plan handed to several worker processes, each on a device of its own.

Units are plain functions from artifacts to one artifact, so a worker needs the recipe and the names of what to make:
it plans the recipe anew and makes the units that it is told to. Nothing else is shared but the run directory. A unit is
handed out, in the order of the plan, as soon as its inputs are there, and gives the same bytes as in a run without
workers, since it gives the same bytes on a fresh workbench.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.display import Display
from prefdelta.pipeline.kinds import plan_for
from prefdelta.pipeline.making import make
from prefdelta.pipeline.unit import Unit, Workbench
from prefdelta.recipe import BaseRecipe
from prefdelta.store import Artifact, Store


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    lane: int
    unit: str | None = None


def execute_on_workers(
    recipe: BaseRecipe, root: Path, units: Sequence[Unit], count: int, display: Display
) -> dict[str, Artifact]:
    """Make every unit's artifact on ``count`` worker processes; returns all of them by name.

    Args:
        recipe: what is run.
        root: the run directory, which this process holds.
        units: the plan's units, in order.
        count: how many workers; where there are GPUs, each sees one of them, in turn.
        display: has a bar for each worker.

    Raises:
        PrefdeltaError: a stage refuses its input, or a worker died; the others are stopped, and what they had begun is
            continued by the next run.
    """
    made: dict[str, Artifact] = {}
    waiting = list(units)
    with _workers(recipe, root, count) as workers:
        while waiting or any(worker.unit for worker in workers):
            for worker in workers:
                ready = next((unit for unit in waiting if set(unit.inputs.values()) <= made.keys()), None)
                if worker.unit is None and ready is not None:
                    waiting.remove(ready)
                    worker.unit = ready.name
                    display.start(ready.name, worker.lane)
                    with suppress(ConnectionError):  # of a worker that died: it is told of when news is asked for
                        worker.pipe.send((ready.name, {name: made[name] for name in ready.inputs.values()}))
            busy = {worker.pipe: worker for worker in workers if worker.unit}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                artifact = _news(worker, display)
                if artifact is not None and worker.unit is not None:
                    made[worker.unit] = artifact
                    worker.unit = None
                    display.finish()
    return {unit.name: made[unit.name] for unit in units}


def _news(worker: _Worker, display: Display) -> Artifact | None:
    """What a worker has to say: progress, or the artifact."""
    try:
        said = worker.pipe.recv()
    except (EOFError, ConnectionError) as error:
        worker.process.join()
        raise PrefdeltaError(
            f"the worker that made {worker.unit} died (exit code {worker.process.exitcode}); run the recipe again to "
            "continue, with fewer workers if memory ran out."
        ) from error
    if isinstance(said, PrefdeltaError):
        raise said
    if isinstance(said, Artifact):
        return said
    done, total = said
    display.inner(done, total, worker.lane)
    return None


@contextmanager
def _workers(recipe: BaseRecipe, root: Path, count: int) -> Iterator[list[_Worker]]:
    # Not forked: neither CUDA nor the threads of the numeric libraries survive that.
    context = multiprocessing.get_context("spawn")
    devices = _devices()
    workers: list[_Worker] = []
    try:
        for lane in range(count):
            here, there = context.Pipe()
            device = devices[lane % len(devices)] if devices else None
            arguments = (there, recipe, root, device, torch.get_num_threads())
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            there.close()
            workers.append(_Worker(process, here, lane))
        yield workers
    finally:
        for worker in workers:
            if worker.unit is not None:
                worker.process.terminate()
            worker.pipe.close()  # which an idle worker takes as its end
        for worker in workers:
            worker.process.join()


def _devices() -> list[str]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _work(pipe: Connection, recipe: BaseRecipe, root: Path, device: str | None, threads: int) -> None:
    """A worker's life: make what is asked for, until nothing more is."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    torch.set_num_threads(threads)  # results on a CPU depend on it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    units = {unit.name: unit for unit in plan_for(recipe, root).units}
    bench = Workbench(lambda done, total: pipe.send((done, total)))
    store = Store(root)
    with suppress(EOFError, ConnectionError):
        while True:
            name, artifacts = pipe.recv()
            try:
                pipe.send(make(units[name], store, artifacts, bench))
            except PrefdeltaError as error:
                pipe.send(error)


def _end_with_parent() -> None:
    """Never outlive the run: the next one would find a stranger at work in its directory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
