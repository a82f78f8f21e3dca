"""Outcomes of a model item by item, under each task's own head and under one joint head over all classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from prefdelta.experiments.suites.backbone.encoder import Encoder, Head
from prefdelta.experiments.suites.data.task import Examples


@dataclass(frozen=True)
class Trial:
    """A task as it is measured: its examples in one split, its head, and the names of its classes."""

    name: str
    examples: Examples
    head: Head
    classes: tuple[str, ...]


@dataclass(frozen=True)
class JointHead:
    """One head over the classes of several tasks; a class that several name is one class.

    Attributes:
        head: all classes.
        places: task -> the place of each of its classes.
    """

    head: Head
    places: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Outcome:
    """A task's items: whether the own head was right ``(n,)`` bool, and how many classes of the joint head came before
    the right one ``(n,)`` int64 (0: a hit at 1), where there is a joint head.
    """

    correct: Tensor
    joint_place: Tensor | None = None

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.correct.double().mean())


def joint_head(trials: Sequence[Trial]) -> JointHead:
    """The heads of several tasks as one; of a class that several tasks name, the first task's row counts."""
    names, places = union_labels({trial.name: trial.classes for trial in trials})
    rows: dict[int, Tensor] = {}
    for trial in trials:
        for place, row in zip(places[trial.name], trial.head.weight, strict=True):
            rows.setdefault(place, row)
    weight = torch.stack([rows[place] for place in range(len(names))])
    return JointHead(Head(weight, scale=trials[0].head.scale), places)


def union_labels(classes: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """The classes of all tasks, each text once in order of appearance, and by task the place of each of its classes.

    >>> union_labels({"mnist": ["zero", "one"], "letters": ["a", "one"]})
    (('zero', 'one', 'a'), {'mnist': (0, 1), 'letters': (2, 1)})
    """
    places: dict[str, int] = {}
    for texts in classes.values():
        for text in texts:
            places.setdefault(text, len(places))
    return tuple(places), {task: tuple(places[text] for text in texts) for task, texts in classes.items()}


def measure(
    encoder: Encoder, model: nn.Module, trials: Sequence[Trial], joint: JointHead | None, *, batch: int
) -> dict[str, Outcome]:
    """Run a model over each task's examples.

    Args:
        encoder: how features are read.
        model: the backbone, with or without an adapter on it.
        trials: what to run it on.
        joint: a head over all tasks, where features of all tasks share one space of classes.
        batch: examples per forward pass.
    """
    return {trial.name: _outcome(encoder, model, trial, joint, batch) for trial in trials}


def write_outcomes(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Store outcomes as safetensors."""
    tensors: dict[str, Tensor] = {}
    for name, outcome in outcomes.items():
        tensors[f"{name}.correct"] = outcome.correct
        if outcome.joint_place is not None:
            tensors[f"{name}.joint_place"] = outcome.joint_place
    path.write_bytes(save(tensors))


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """What :func:`write_outcomes` stored."""
    tensors = load_file(path)
    names = [name.removesuffix(".correct") for name in tensors if name.endswith(".correct")]
    return {name: Outcome(tensors[f"{name}.correct"], tensors.get(f"{name}.joint_place")) for name in names}


@torch.no_grad()
def _outcome(encoder: Encoder, model: nn.Module, trial: Trial, joint: JointHead | None, batch: int) -> Outcome:
    correct, places = [], []
    for index in torch.arange(len(trial.examples)).split(batch):
        part = trial.examples.at(index, encoder.model.device)
        features = encoder.features(model, part.inputs)
        correct.append((trial.head(features).argmax(dim=-1) == part.labels).cpu())
        if joint is not None:
            own = torch.tensor(joint.places[trial.name], device=part.labels.device)[part.labels]
            places.append(_place(joint.head(features), own).cpu())
    return Outcome(torch.cat(correct), torch.cat(places) if places else None)


def _place(logits: Tensor, own: Tensor) -> Tensor:
    """How many classes come before an item's own, ``(n,)``; of equal logits the earlier class comes first."""
    mine = logits.gather(1, own[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    return ((logits > mine) | ((logits == mine) & (classes < own[:, None]))).sum(dim=1)
