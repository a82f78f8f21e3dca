"""Reports to a tracker, beside ``metrics.jsonl``, where the recipe asks for one."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Training


def tracker(training: Training, folder: Path) -> list[TrainerCallback]:
    """The callback that reports to the recipe's tracker; none where it names none.

    W&B and trackio take their settings (project, entity, offline mode) from their own environment variables.
    TensorBoard's files go to ``TENSORBOARD_LOGGING_DIR``, or to a folder ``tensorboard`` beside the adapter's: not into
    it, since they hold times, and an artifact does not.

    Args:
        training: names the tracker.
        folder: where the adapter is written; its name is the run's.

    Raises:
        PrefdeltaError: the tracker is not installed.
    """
    if training.tracker is None:
        return []
    if importlib.util.find_spec(training.tracker) is None:
        raise PrefdeltaError(
            f"training.tracker is {training.tracker!r}, which is not installed: pip install "
            f"'prefdelta[{training.tracker}]', or remove the key (metrics.jsonl is always written)."
        )
    if training.tracker == "wandb":
        return [WandbCallback()]
    if training.tracker == "trackio":
        return [TrackioCallback()]
    from torch.utils.tensorboard import SummaryWriter

    place = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or folder.parent / "tensorboard")
    return [TensorBoardCallback(SummaryWriter(str(place / run_name(folder))))]


def run_name(folder: Path) -> str:
    """What a tracker calls a training: its folder's name, without the marks of one that is being made."""
    return folder.name.removeprefix(".").removesuffix(".partial")
