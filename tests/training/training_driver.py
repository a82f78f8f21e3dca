"""Trains in a process of its own: ``python training_driver.py STUDENT ROWS TRAINING_JSON FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from prefdelta.core.records import read_examples
from prefdelta.recipe import ModelRef, Training
from prefdelta.training import train_delta

if __name__ == "__main__":
    student, rows, training, folder = sys.argv[1:]
    torch.set_num_threads(1)
    settings = Training.model_validate_json(training)
    train_delta(ModelRef(path=student), read_examples(Path(rows)), settings, seed=3, init_seed=5, folder=Path(folder))
