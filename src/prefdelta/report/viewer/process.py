"""How a run was made: its units with their inputs, times and sizes; the trainings' logs; the deltas' geometry."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefdelta.core.manifests import KEY, MANIFEST, read_manifest
from prefdelta.core.shard import SHARDS
from prefdelta.core.store import builds

_LOG = "metrics.jsonl"
_GEOMETRY = "geometry.json"
_CURVES = ("loss", "rewards/accuracies", "rewards/margins")
_MOST = 400  # points of a curve


@dataclass(frozen=True)
class UnitView:
    """One artifact: ``seconds`` that its last build took, if the journal tells; ``size`` in bytes; artifacts read."""

    name: str
    stage: str
    seconds: float | None
    size: int
    inputs: Sequence[str]


@dataclass(frozen=True)
class UnitDetails:
    """What an artifact's manifest tells: its settings, and its files as (name, bytes, SHA-256)."""

    settings: Any
    files: Sequence[tuple[str, int, str]]


@dataclass(frozen=True)
class TrainingView:
    """One adapter's training: metric -> its value at each of ``steps``."""

    name: str
    steps: Sequence[int]
    metrics: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class GeometryView:
    """The deltas of a domain: norms, and cosines of each pair by module and over all (``None`` for a zero update)."""

    domain: str
    names: Sequence[str]
    norms: Sequence[float]
    pairs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ProcessView:
    """What is known of the making of a run; ``details`` by the names of the units."""

    units: Sequence[UnitView] = ()
    trainings: Sequence[TrainingView] = ()
    geometry: Sequence[GeometryView] = ()
    details: Mapping[str, UnitDetails] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkingView:
    """A unit that is being made, and for how many seconds now."""

    name: str
    seconds: float


@dataclass(frozen=True)
class RunState:
    """How far a run has come: what is made, and at work; the trainings' logs as far as they go."""

    finished: bool
    units: Sequence[UnitView]
    trainings: Sequence[TrainingView]
    geometry: Sequence[GeometryView]
    working: Sequence[WorkingView]


def run_state(root: Path, *, finished: bool) -> RunState:
    """How far a run has come. Folders that come and go meanwhile are passed over."""
    made = collect_process(root)
    working, trainings = [], []
    for folder in sorted(root.rglob(".*.partial")):
        name = (folder.relative_to(root).parent / folder.name[1:].removesuffix(".partial")).as_posix()
        with suppress(OSError):
            working.append(WorkingView(name, max(time.time() - (folder / KEY).stat().st_mtime, 0.0)))
            trainings.append(_training(name, folder / _LOG))
    return RunState(finished, made.units, [*made.trainings, *trainings], made.geometry, working)


def collect_process(root: Path) -> ProcessView:
    """Read manifests, journal, training logs and geometry of a run folder."""
    seconds = _seconds(root)
    units, trainings, geometry, details = [], [], [], {}
    for manifest in sorted(root.rglob(MANIFEST)):
        folder = manifest.parent
        told = read_manifest(folder)
        name = folder.relative_to(root)
        if told is None or "stage" not in told or any(part.startswith(".") for part in name.parts):
            continue
        sizes = told.get("bytes", {})
        files = [(file, sizes.get(file, 0), digest) for file, digest in sorted(told["files"].items())]
        details[name.as_posix()] = UnitDetails(told.get("config", {}), files)
        inputs = sorted({entry["path"] for entry in told.get("inputs", {}).values()})
        units.append(
            UnitView(name.as_posix(), told["stage"], seconds.get(name.as_posix()), sum(sizes.values()), inputs)
        )
        if (folder / _LOG).is_file():
            trainings.append(_training(name.as_posix(), folder / _LOG))
        if (folder / _GEOMETRY).is_file():
            geometry.append(_geometry(name.parts[0], folder / _GEOMETRY))
    order = {name: place for place, name in enumerate(seconds)}
    units.sort(key=lambda unit: (order.get(unit.name, len(order)), unit.name))
    return ProcessView(units, trainings, geometry, details)


def _seconds(root: Path) -> dict[str, float]:
    """Artifact -> seconds of its last build and of its shards, in the order of building."""
    found: dict[str, float] = {}
    shards: defaultdict[str, float] = defaultdict(float)
    for entry in builds(root):
        name, seconds = str(entry["artifact"]), float(entry["seconds"])
        if name.startswith(f"{SHARDS}/"):
            shards[name.removeprefix(f"{SHARDS}/").rpartition("/")[0]] += seconds
            continue
        found.pop(name, None)
        found[name] = seconds + shards.pop(name, 0.0)
    return found


def thinned(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A log's lines, so few of them that a curve has no more points than can be seen; the first and last are kept."""
    return [*lines[:-1][:: -(-len(lines) // _MOST) or 1], *lines[-1:]]


def _training(name: str, log: Path) -> TrainingView:
    whole = log.read_text(encoding="utf-8").rpartition("\n")[0]  # what follows the last newline is being written
    lines = [json.loads(line) for line in whole.splitlines()]
    lines = thinned(lines)
    metrics = {key: [line.get(key) for line in lines] for key in _CURVES if any(key in line for line in lines)}
    return TrainingView(name, [int(line.get("step", place + 1)) for place, line in enumerate(lines)], metrics)


def _geometry(domain: str, path: Path) -> GeometryView:
    told = json.loads(path.read_text(encoding="utf-8"))
    pairs = [
        {
            "first": pair["first"],
            "second": pair["second"],
            "cosine": pair["cosine"],
            "modules": {entry["module"]: entry["cosine"] for entry in pair.get("modules", ())},
        }
        for pair in told["pairs"]
    ]
    return GeometryView(domain, told["names"], told["norms"], pairs)
