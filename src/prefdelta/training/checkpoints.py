"""Checkpoints and step logs of a training: what a killed one continues from.

A checkpoint is a folder ``checkpoint-STEP``, whole or not there: a marker, written last, says which training it belongs
to and what each of its files hashes to. The folder that holds them carries a mark of its own: in one without it,
nothing is written or removed. The log has one JSON object per step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import file_digest, replace_text, write_json
from prefdelta.core.records import to_json

_OURS = ".prefdelta-checkpoints"  # in the folder of the checkpoints, from the beginning
_MARKER = "complete"
_STATE = "state.safetensors"
_LOG = "log.jsonl"


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: where they lie; :meth:`check` refuses one that holds somebody else's files.
        key: says what is being trained; checkpoints of anything else are removed.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    def check(self) -> None:
        """Refuse a folder with files that prefdelta did not write, such as another trainer's checkpoints.

        Raises:
            PrefdeltaError: there are such files.
        """
        if self.folder.is_dir() and not (self.folder / _OURS).is_file() and any(self.folder.iterdir()):
            raise PrefdeltaError(
                f"{self.folder} holds files that prefdelta did not write, and checkpoints are to go there; move it or "
                "train into another folder."
            )

    def claim(self) -> None:
        """Make the folder, and mark it as one whose checkpoints may be removed.

        Raises:
            PrefdeltaError: as :meth:`check`.
        """
        self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _OURS).touch()

    def at(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"checkpoint-{step}"

    def complete(self, step: int) -> None:
        """Say that everything in the checkpoint of a step is written."""
        write_json(self.at(step) / _MARKER, {"key": self.key, "files": _hashes(self.at(step))})

    def latest(self) -> int:
        """The step of the newest complete checkpoint, 0 without one.

        All others that are of no use are removed: half-written ones, which a kill left behind, damaged ones, and those
        of another training.

        Raises:
            PrefdeltaError: as :meth:`check`.
        """
        self.check()
        usable = [0]
        for path in sorted(self.folder.glob("checkpoint-*")):
            if self._whole(path):
                usable.append(int(path.name.removeprefix("checkpoint-")))
            else:
                shutil.rmtree(path)
        return max(usable)

    def _whole(self, checkpoint: Path) -> bool:
        try:
            marker = json.loads((checkpoint / _MARKER).read_text(encoding="utf-8"))
            return bool(marker == {"key": self.key, "files": _hashes(checkpoint)})
        except (FileNotFoundError, ValueError):
            return False

    def save(self, step: int, parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer, log: Path) -> None:
        """Write parameters, the optimiser's moments and the log so far, and remove the checkpoints before."""
        state: dict[str, Tensor] = {}
        for number, parameter in enumerate(parameters):
            state[f"{number}.value"] = parameter.detach()
            state |= {f"{number}.{name}": value for name, value in optimiser.state[parameter].items()}
        self.claim()
        folder = self.at(step)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / _STATE).write_bytes(save({name: value.cpu().contiguous() for name, value in state.items()}))
        shutil.copyfile(log, folder / _LOG)
        self.complete(step)
        for old in self.folder.glob("checkpoint-*"):
            if old != folder:
                shutil.rmtree(old)

    def restore(self, parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer, log: Path) -> int:
        """Take up what :meth:`save` wrote last; how many steps it holds, 0 without any."""
        step = self.latest()
        if step == 0:
            replace_text(log, "")
            return 0
        # A killed training may have logged more steps than its last checkpoint holds.
        replace_text(log, (self.at(step) / _LOG).read_text(encoding="utf-8"))
        state = load_file(self.at(step) / _STATE)
        for number, parameter in enumerate(parameters):
            own = {name.split(".", 1)[1]: value for name, value in state.items() if name.startswith(f"{number}.")}
            with torch.no_grad():
                parameter.copy_(own.pop("value"))
            # AdamW counts steps on the CPU.
            optimiser.state[parameter] = {
                name: value if name == "step" else value.to(parameter.device) for name, value in own.items()
            }
        return step

    def remove(self) -> None:
        """Remove them all: the training is done."""
        if (self.folder / _OURS).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)


def _hashes(checkpoint: Path) -> dict[str, str]:
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != _MARKER)
    return {str(path.relative_to(checkpoint)): file_digest(path) for path in files}


def append_line(log: Path, line: Mapping[str, Any]) -> None:
    """Add one step to a log."""
    with log.open("a", encoding="utf-8") as handle:
        handle.write(to_json(line) + "\n")
