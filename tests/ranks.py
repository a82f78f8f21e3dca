"""Several processes that train together, as ``torchrun`` starts them, without importing everything anew in each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

from prefdelta.core.records import read_examples
from prefdelta.recipe import ModelRef, Training


def train_together(count: int, *arguments: Any) -> list[int]:
    """Run :func:`train_as` in ``count`` processes; returns their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranks", "prefdelta.training.train"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=train_as, args=(rank, count, port, *arguments)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        process.kill()  # nothing happens to one that has ended
        process.join()
    return [int(process.exitcode or 0) for process in processes]


def train_as(
    rank: int,
    count: int,
    port: int,
    student: ModelRef,
    rows: Path,
    training: Training,
    folder: Path,
    killed_at: int = 0,
) -> None:
    """One process's part; with ``killed_at`` it kills itself while it writes that step's checkpoint."""
    import torch

    from prefdelta.training import train_delta
    from prefdelta.training.trainer import DeltaTrainer

    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    save = DeltaTrainer._save_optimizer_and_scheduler

    def half_save(self: Any, output_dir: str) -> None:
        save(self, output_dir)
        if self.state.global_step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    DeltaTrainer._save_optimizer_and_scheduler = half_save  # type: ignore[method-assign]
    train_delta(student, read_examples(rows), training, seed=3, init_seed=5, folder=folder)
