"""What a learning run leaves behind while it is at work: its log, and checkpoints to go on from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from prefdelta.records import to_json
from prefdelta.store import replace_text
from prefdelta.training import checkpoints

if TYPE_CHECKING:
    from prefdelta.learning.optimise import Step

LOG = "learning.jsonl"
_STATE = "state.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Journal:
    """The log and the checkpoints of one run.

    Args:
        folder: where both lie.
        key: says what is being learned.
        coefficients: φ.
        optimiser: AdamW over φ alone.
    """

    def __init__(self, folder: Path, key: str, coefficients: Tensor, optimiser: torch.optim.AdamW) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoints = folder / "checkpoints"
        self._log = folder / LOG
        self._key = key
        self._coefficients = coefficients
        self._optimiser = optimiser

    def resume(self) -> int:
        """Take up the newest checkpoint of this run; how many steps it holds, 0 without one."""
        found = checkpoints.latest(self.checkpoints, self._key)
        done = 0
        if found is not None:
            done = int(found.name.removeprefix("checkpoint-"))
            state = load_file(found / _STATE)
            with torch.no_grad():
                self._coefficients.copy_(state["coefficients"])
            moments = {name: state[name].to(self._coefficients.device) for name in _MOMENTS[1:]}
            self._optimiser.state[self._coefficients] = {"step": state["step"], **moments}
        # A killed run may have logged more steps than its last checkpoint holds.
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)[:done] if done else []
        replace_text(self._log, "".join(lines))
        return done

    def add(self, number: int, tasks: Sequence[str], step: Step) -> None:
        """Log a step."""
        line = {
            "step": number,
            "total": step.total,
            "objectives": dict(zip(tasks, step.values.tolist(), strict=True)),
            "weights": dict(zip(tasks, step.weights.tolist(), strict=True)),
        }
        with self._log.open("a", encoding="utf-8") as handle:
            handle.write(to_json(line) + "\n")

    def checkpoint(self, number: int) -> None:
        """Write a checkpoint and remove those before it."""
        folder = self.checkpoints / f"checkpoint-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        moments = self._optimiser.state[self._coefficients]
        state = {"coefficients": self._coefficients.detach(), **{name: moments[name] for name in _MOMENTS}}
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, folder / _STATE)
        checkpoints.complete(folder, self._key)
        for old in self.checkpoints.glob("checkpoint-*"):
            if old != folder:
                shutil.rmtree(old)
