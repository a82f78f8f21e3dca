"""Trains in a process of its own, which kills itself as ``kill -9`` would.

    python training_driver.py STUDENT ROWS TRAINING_JSON FOLDER [STEP]

It does so while the checkpoint of STEP is half written; without a STEP the training is run to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from prefdelta.recipe import ModelRef, Training
from prefdelta.records import read_examples
from prefdelta.training import train_delta
from prefdelta.training.trainer import DeltaTrainer


def main(student: str, rows: str, training: str, folder: str, step: str = "-1") -> None:
    torch.set_num_threads(1)
    settings = Training.model_validate_json(training)
    save = DeltaTrainer._save_optimizer_and_scheduler

    def half_save(self: Any, output_dir: str) -> None:
        save(self, output_dir)
        if self.state.global_step == int(step):
            os.kill(os.getpid(), signal.SIGKILL)

    DeltaTrainer._save_optimizer_and_scheduler = half_save

    train_delta(
        ModelRef(path=student),
        read_examples(Path(rows)),
        settings,
        seed=3,
        init_seed=5,
        folder=Path(folder),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
