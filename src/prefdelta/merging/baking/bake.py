"""Adding updates to a base model's weights: shard by shard, one block of rows in memory at a time."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from prefdelta.adapters.writer import DTYPE_NAMES, tensor_bytes
from prefdelta.core.checkpoint import (
    CONFIG_NAME,
    FLOATS,
    INDEX_NAME,
    Checkpoint,
    Output,
    check_model_folder,
    write_index,
    write_shard,
)
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.model_files import local_folder
from prefdelta.core.names import public_name
from prefdelta.core.outputs import check_place, staged_folder
from prefdelta.linalg.threads import one_thread
from prefdelta.merging.baking.report import ApplyReport, BakedModule
from prefdelta.merging.baking.rounding import RoundingTally, total_loss
from prefdelta.merging.baking.targets import Target, plan_targets
from prefdelta.merging.baking.updates import Updates
from prefdelta.recipe import ModelRef

REPORT_NAME = "prefdelta_apply.json"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_COMPARED = (torch.float32, torch.bfloat16)
_LARGE_ERROR = 0.05
_COPIED = (".json", ".txt", ".model", ".jinja", ".py", ".tiktoken", ".spm", ".vocab", ".merges")


@dataclass(frozen=True)
class Base:
    """A model to bake into: what the user called it, its folder, configuration and weights."""

    ref: ModelRef
    folder: Path
    config: Mapping[str, Any]
    checkpoint: Checkpoint


def open_base(base: ModelRef | Path | str) -> Base:
    """Find a model folder and read what its files say about its weights.

    Raises:
        PrefdeltaError: there is no such folder, it is quantised, or a file of it is missing or damaged.
    """
    ref = base if isinstance(base, ModelRef) else ModelRef(path=str(base))
    folder = local_folder(ref)
    if folder is None:
        raise PrefdeltaError(f"{ref.path!r} is no folder; download the model (`hf download {ref.path}`) and name that.")
    config = check_model_folder(folder)
    if config.get("quantization_config"):
        raise PrefdeltaError(f"{folder} is quantised; bake the adapter into the unquantised model and quantise that.")
    return Base(ref, folder, config, Checkpoint(folder))


def bake(
    base: Base,
    updates: Updates,
    output: Path,
    *,
    dtype: Dtype,
    overwrite: bool,
    progress: Callable[[int, int], None] | None,
) -> ApplyReport:
    """Write the base with every update added, and ``prefdelta_apply.json``; whole or not at all.

    Raises:
        PrefdeltaError: a module is not in the base or has another shape, a sum does not fit the type, or the output
            cannot be written or would replace the base.
    """
    check_place(output, [base.folder])
    plan = plan_targets(base.checkpoint, updates, base.ref.trust_remote_code)
    run = _Bake(base.checkpoint, updates, None if dtype == "auto" else getattr(torch, dtype), progress)
    with staged_folder(output, overwrite=overwrite) as staging, one_thread():
        run.write(staging, plan.targets)
        _copy_files(base.folder, staging)
        _write_config(staging, base.config, dtype, plan.untied)
        report = run.report(public_name(base.ref.path) or base.ref.path, plan.untied)
        (staging / REPORT_NAME).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report


class _Bake:
    """One pass over the checkpoint, which gathers the report as it goes."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        updates: Updates,
        dtype: torch.dtype | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._checkpoint = checkpoint
        self._updates = updates
        self._dtype = dtype
        self._progress = progress
        self._written = self._total = 0
        self._tensors = 0
        self._modules: list[BakedModule] = []
        self._stored: list[RoundingTally] = []
        self._compared: list[RoundingTally] = []

    def write(self, folder: Path, targets: Mapping[str, Target]) -> None:
        """Write every shard, and the index if there was one."""
        everything = {name: Target(name, None) for name in self._checkpoint.tensors} | dict(targets)
        outputs = {name: self._output(name, target, folder) for name, target in everything.items()}
        shard_of = {name: self._checkpoint.tensors[target.source].shard for name, target in everything.items()}
        self._total = sum(output.size for output in outputs.values())
        self._tensors = len(outputs)
        for shard in self._checkpoint.shards:
            listed = [output for name, output in outputs.items() if shard_of[name] == shard]
            write_shard(folder / shard, listed, self._checkpoint.metadata[shard])
        if self._checkpoint.indexed:
            write_index(folder / INDEX_NAME, shard_of, self._total)

    def _output(self, name: str, target: Target, folder: Path) -> Output:
        entry = self._checkpoint.tensors[target.source]
        dtype = self._dtype if self._dtype is not None and entry.dtype in FLOATS else FLOATS.get(entry.dtype)
        size = entry.end - entry.start
        kind = entry.dtype
        if dtype is not None:
            kind = DTYPE_NAMES[dtype]
            size = math.prod(entry.shape) * dtype.itemsize
        if target.module is not None and dtype is not None:
            blocks = self._baked(name, target, target.module, dtype, folder)
        elif kind != entry.dtype and dtype is not None:
            blocks = self._converted(target.source, dtype)
        else:
            blocks = self._checkpoint.raw(target.source)
        return Output(name, kind, entry.shape, size, self._counted(blocks))

    def _counted(self, blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for block in blocks:
            yield block
            self._written += len(block)
            if self._progress is not None:
                self._progress(self._written, self._total)

    def _converted(self, source: str, dtype: torch.dtype) -> Iterator[bytes | memoryview]:
        for _, rows in self._checkpoint.rows(source):
            yield tensor_bytes(_finite(rows.to(dtype), source))

    def _baked(
        self, name: str, target: Target, module: str, dtype: torch.dtype, folder: Path
    ) -> Iterator[bytes | memoryview]:
        tallies = {kind: RoundingTally(kind) for kind in dict.fromkeys((dtype, *_COMPARED))}
        weight_norm = 0.0
        with self._updates.rows(module, target.transposed, folder) as update:
            for first, rows in self._checkpoint.rows(target.source):
                weight = rows.to(torch.float64)
                part = update(first, len(rows)).reshape(weight.shape)
                weight_norm += float(weight.square().sum())
                stored = {kind: tally.add(weight, part) for kind, tally in tallies.items()}[dtype]
                yield tensor_bytes(_finite(stored, name))
        self._record(name, target, dtype, tallies, math.sqrt(weight_norm))

    def _record(
        self, name: str, target: Target, dtype: torch.dtype, tallies: dict[torch.dtype, RoundingTally], norm: float
    ) -> None:
        self._stored.append(tallies[dtype])
        self._compared.extend(tallies.values())
        self._modules.append(
            BakedModule(
                module=target.module or "",
                tensor=name,
                shape=self._checkpoint.tensors[target.source].shape,
                stored=_name(dtype),
                weight_norm=norm,
                update_norm=math.sqrt(tallies[dtype].update),
                losses={_name(kind): tally.loss for kind, tally in tallies.items()},
            )
        )

    def report(self, base: str, untied: bool) -> ApplyReport:
        """The report of the finished pass."""
        kinds = list(dict.fromkeys(tally.dtype for tally in self._compared))
        # A type that only some modules are stored in has no total of its own to compare.
        whole = [kind for kind in kinds if sum(t.dtype == kind for t in self._compared) == len(self._modules)]
        loss = total_loss(self._stored)
        adapters, scale, merge = self._updates.origin()
        return ApplyReport(
            version=metadata.version("prefdelta"),
            base=base,
            adapters=adapters,
            scale=scale,
            merge=merge,
            shards=self._checkpoint.shards,
            tensors=self._tensors,
            bytes=self._total,
            untied=untied,
            update_norm=math.sqrt(sum(tally.update for tally in self._stored)),
            weight_norm=math.sqrt(sum(entry.weight_norm**2 for entry in self._modules)),
            loss=loss,
            losses={_name(kind): total_loss(t for t in self._compared if t.dtype == kind) for kind in whole},
            warnings=tuple(self._warnings(loss.relative_error, loss.vanished, untied)),
            modules=tuple(sorted(self._modules, key=lambda entry: entry.module)),
        )

    def _warnings(self, error: float | None, vanished: float | None, untied: bool) -> Iterator[str]:
        if error is None or vanished is None:
            yield "the update is zero everywhere; the model is the base."
        elif error > _LARGE_ERROR:
            yield (
                f"rounding changed the update by {error:.0%} of its norm, and {vanished:.0%} of its entries vanished; "
                "bake into float32, or serve an adapter beside the base."
            )
        if untied:
            yield "embedding and output head shared one weight; the update changes one of them, so both are stored."


def _finite(rows: Tensor, name: str) -> Tensor:
    if not bool(torch.isfinite(rows).all()):
        raise PrefdeltaError(f"{name} has values that {_name(rows.dtype)} cannot hold; choose a wider type.")
    return rows


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _copy_files(source: Path, target: Path) -> None:
    """Copy configuration, tokenizer, licence and code files; other weight formats would contradict the new weights."""
    for path in sorted(source.iterdir()):
        licence = path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE"))
        index = path.name.endswith(".index.json")
        if path.is_file() and not path.name.startswith(".") and not index and (licence or path.suffix in _COPIED):
            shutil.copyfile(path, target / path.name)


def _write_config(folder: Path, config: Mapping[str, Any], dtype: Dtype, untied: bool) -> None:
    """Say in ``config.json`` what changed; an unchanged one stays as it was copied."""
    changed = dict(config)
    parts = [changed]
    if isinstance(config.get("text_config"), dict):
        changed["text_config"] = dict(config["text_config"])
        parts.append(changed["text_config"])
    for part in parts:
        if untied:
            part["tie_word_embeddings"] = False
        for key in ("dtype", "torch_dtype"):
            if dtype != "auto" and key in part:
                part[key] = dtype
    if dtype != "auto" and not {"dtype", "torch_dtype"} & changed.keys():
        changed["dtype"] = dtype
    if changed != config:
        text = json.dumps(changed, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
