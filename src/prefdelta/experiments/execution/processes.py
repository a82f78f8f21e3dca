"""The executor of one machine: worker processes, each on a device of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

import torch

from prefdelta.core.progress import warn_in_words
from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.execution.scheduler import Came, Executor, Lost, News, Told
from prefdelta.experiments.execution.worker import Worker
from prefdelta.experiments.unit import Unit
from prefdelta.recipe import BaseRecipe

_PATIENCE = 30.0
"""Seconds that a worker has to end in when it is told to; a step of a training may be under way."""


@dataclass
class _Process:
    process: BaseProcess
    pipe: Connection
    lane: int
    unit: str | None = None


class Processes(Executor):
    """Up to ``count`` processes, started when there is work for them; a lost one is replaced.

    Args:
        recipe: what is run.
        store: the run directory, which this process holds.
        count: how many; where there are GPUs, each sees one of them, in turn.
    """

    def __init__(self, recipe: BaseRecipe, store: Store, count: int) -> None:
        self.lanes = count
        self._recipe = recipe
        self._store = store
        self._devices = _devices()
        self._processes: list[_Process] = []

    def close(self) -> None:
        """End what is under way."""
        for worker in self._processes:
            worker.process.terminate()
            worker.pipe.close()
        for worker in self._processes:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def free(self) -> bool:
        """Whether another unit can be handed out."""
        return len(self._processes) < self.lanes or any(worker.unit is None for worker in self._processes)

    def submit(self, unit: Unit, inputs: Mapping[str, Artifact]) -> None:
        """Take a unit and its inputs' artifacts."""
        worker = next((worker for worker in self._processes if worker.unit is None), None) or self._start()
        worker.unit = unit.name
        with suppress(ConnectionError):  # of a worker that died: it is told of when news is asked for
            worker.pipe.send((unit.name, dict(inputs)))

    def news(self) -> Iterator[News]:
        """What has happened; waits until there is something."""
        busy = {worker.pipe: worker for worker in self._processes if worker.unit is not None}
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            assert worker.unit is not None
            try:
                news = worker.pipe.recv()
            except (EOFError, ConnectionError):
                worker.process.join()
                worker.pipe.close()
                self._processes.remove(worker)
                news = Lost(worker.unit, _death(worker.process.exitcode or 0))
            if not isinstance(news, Came | Told):
                worker.unit = None
            yield news

    def _start(self) -> _Process:
        # Not forked: neither CUDA nor the threads of the numeric libraries survive that.
        context = multiprocessing.get_context("spawn")
        lane = min(set(range(self.lanes)) - {worker.lane for worker in self._processes})
        device = self._devices[lane % len(self._devices)] if self._devices else None
        here, there = context.Pipe()
        arguments = (there, self._recipe, self._store, device, torch.get_num_threads())
        process = context.Process(target=_work, args=arguments, daemon=True)
        resource_tracker.ensure_running()  # now, as that unblocks interrupts
        # Blocked in the worker for good, from its first instruction: this process is interrupted, and ends its workers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        worker = _Process(process, here, lane)
        self._processes.append(worker)
        return worker


def _death(code: int) -> str:
    """How a worker process ended that did not say why itself."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    if name == "SIGKILL":
        return "was killed (SIGKILL), as the system does when memory runs out (then use fewer workers)"
    return f"was killed ({name})"


def _devices() -> list[str]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _work(pipe: Connection, recipe: BaseRecipe, store: Store, device: str | None, threads: int) -> None:
    """The worker loop: make the units that are asked for, until the pipe is closed."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    torch.set_num_threads(threads)  # results on a CPU depend on it
    signal.signal(signal.SIGTERM, _interrupt)
    warn_in_words()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        worker = Worker(recipe, store, pipe.send)
        while True:
            name, inputs = pipe.recv()
            pipe.send(worker.make(name, inputs))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let a unit clean up, as Ctrl-C does."""
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Never outlive the run: the next one would find a stranger at work in its directory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
