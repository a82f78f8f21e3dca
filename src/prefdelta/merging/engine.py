"""The merge engine: adapters in, one adapter out, a module or two in memory at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from prefdelta.adapters import SERVABLE_RANKS, Adapter, AdapterInfo, write_files
from prefdelta.adapters.config import common_info
from prefdelta.adapters.writer import DTYPE_NAMES
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.outputs import staged_folder
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.threads import one_thread
from prefdelta.merging.inputs import Inputs, kept_copies, prepare, updates_of
from prefdelta.merging.registry import Options
from prefdelta.merging.report import MergeReport, model_card
from prefdelta.merging.scale import Scale
from prefdelta.merging.statistics import Measured, MergeStatistics, Result, compared

REPORT_NAME = "prefdelta_merge.json"

_WORKERS = 2  # modules merged at once, each on one thread; memory grows with it
_FEW = 4  # adapters; the products of all pairs of them cost no more than what else there is to compute
_AHEAD = 4  # modules under way: while a large one is waited for, small ones go on; merged ones take little memory


def merge(
    adapters: Sequence[Path | str],
    output: Path | str,
    *,
    method: str,
    weights: Sequence[float] | None = None,
    scale: Scale = 1.0,
    options: Mapping[str, Any] | Options | None = None,
    dtype: str | None = None,
    rank: int | Literal["servable"] | None = None,
    extra_weights: Literal["refuse", "drop"] = "refuse",
    compare: bool | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Merge LoRA adapters into a new one, without their base model.

    The output folder holds an adapter that PEFT loads, ``prefdelta_merge.json`` (the report that is returned) and a
    model card. It appears whole or not at all. The same inputs give the same bytes, whatever the number of threads.

    Args:
        adapters: folders of PEFT LoRA adapters of one base model; their order is the order of ``weights``.
        output: the folder to make.
        method: a name of :data:`prefdelta.merging.METHODS`.
        weights: one per adapter, all 1 if left out; the method says what they mean.
        scale: λ, a factor on the merged update; ``"norm-matched"`` gives every module the mean norm of the updates,
            ``"projection"`` the size at which it best holds each update's own component. The norms are reported.
        options: the method's own options.
        dtype: float64, float32, bfloat16 or float16; the widest of the inputs if left out.
        rank: store every module at this rank, by the best approximation or by padding with zeros; ``"servable"``
            takes the least rank that vLLM serves; ``None`` keeps the rank that the method gives.
        extra_weights: what to do with fully trained tensors that lie beside the factors (classification heads and
            other ``modules_to_save``). Heads of different tasks have no common meaning, so they are refused, or left
            out by ``"drop"``; the output then names no task type, because PEFT would look for a head.
        compare: whether to compare the result with the plain average, which takes the products of all pairs of
            adapters. If left out, it is where there are few adapters or the method computes these products anyway.
        overwrite: replace a folder that is there already.
        progress: called with (modules done, modules in all).

    Raises:
        PrefdeltaError: an input cannot be read, inputs do not fit together, an argument is wrong, or the output
            cannot be written. Nothing is left behind.
    """
    target = Path(output)
    inputs = prepare(
        adapters,
        target,
        method=method,
        options=options,
        weights=weights,
        scale=scale,
        rank=rank,
        extra_weights=extra_weights,
    )
    copies = kept_copies(inputs.adapters) if extra_weights == "refuse" else {}
    stored = stored_dtype(dtype, inputs.adapters)
    info = merged_info(inputs.adapters)
    walk = Walk(inputs, scale, rank, stored, compare)
    statistics = MergeStatistics(inputs)
    with (
        staged_folder(target, overwrite=overwrite) as folder,
        one_thread(),
        ThreadPoolExecutor(1) as beside,  # hashing reads all inputs once more, best while the merge waits for the disk
    ):
        hashing = [beside.submit(getattr, adapter, "fingerprint") for adapter in inputs.adapters]
        stream = walk.stream(statistics, progress)
        padding: int | Literal["servable"] | None = "servable" if rank == "servable" else rank
        ranks = write_files(folder, stream, like=info, dtype=stored, rank=padding, names=inputs.modules, copies=copies)
        for hashed in hashing:
            hashed.result()
        report = statistics.report(
            info,
            scale=scale,
            rank=rank,
            dtype=str(stored).removeprefix("torch."),
            stored_ranks=tuple(ranks.values()),
        )
        (folder / REPORT_NAME).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(report, info.base_model), encoding="utf-8")
    return report


class _Done(NamedTuple):
    """One merged module: its numbers and its scaled update, in the type it is to be stored in."""

    measured: Measured
    delta: LowRank


class Walk:
    """One pass over the modules; the arguments are those of :func:`merge`."""

    def __init__(
        self,
        inputs: Inputs,
        scale: Scale,
        rank: int | str | None,
        dtype: torch.dtype,
        compare: bool | None = None,
    ) -> None:
        self._inputs = inputs
        self._scale = scale
        self._rank = rank
        self._dtype = dtype
        self._pairs = len(inputs.adapters) <= _FEW if compare is None else compare

    def stream(
        self, statistics: MergeStatistics, progress: Callable[[int, int], None] | None
    ) -> Iterator[tuple[str, LowRank]]:
        """Merge module by module, a few at a time; results come, and are counted, in the modules' order."""
        modules = self._inputs.modules
        workers = min(_WORKERS, os.cpu_count() or 1)
        waiting: deque[Future[_Done]] = deque()
        left = iter(modules)
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting.extend(pool.submit(self._merge_module, module) for module in islice(left, _AHEAD))
            for count in range(1, len(modules) + 1):
                done = waiting.popleft().result()
                statistics.add(done.measured)
                yield done.measured.entry.module, done.delta
                waiting.extend(pool.submit(self._merge_module, module) for module in islice(left, 1))
                if progress is not None:
                    progress(count, len(modules))

    def _merge_module(self, module: str) -> _Done:
        """Load, merge, cut, scale. Pure but for reading, so that it may run on any thread."""
        inputs = self._inputs
        present, deltas = updates_of(inputs.adapters, module)
        if self._pairs:
            deltas.multiply_pairs()
        merged = inputs.method.run(deltas, weights=inputs.weights, options=inputs.options, module=module)
        delta, kept = merged.delta, merged.notes.get("kept_energy", 1.0)
        limit = SERVABLE_RANKS[-1] if self._rank == "servable" else self._rank
        if isinstance(limit, int) and delta.rank > limit:
            delta, left = delta.truncated(limit)
            kept *= left
        inner = deltas.inner(delta).tolist()
        result = Result(module, delta.shape, delta.rank, delta.norm(), inner, kept, merged.notes)
        measured = compared(result, present, deltas, weights=inputs.weights, scale=self._scale)
        return _Done(measured, delta.scaled(measured.entry.scale).balanced().to(self._dtype))


def merged_info(adapters: Sequence[Adapter]) -> AdapterInfo:
    """What the merge of these adapters says of itself: no task type where a task's head was left out."""
    info = common_info(adapter.info for adapter in adapters)
    return replace(info, task_type=None) if any(adapter.extra for adapter in adapters) else info


def stored_dtype(name: str | None, adapters: Sequence[Adapter]) -> torch.dtype:
    """The type to store a merge in: the one of that name, else the widest of the adapters'.

    Raises:
        PrefdeltaError: no type of that name can be stored.
    """
    if name is None:
        widest = adapters[0].dtype
        for adapter in adapters[1:]:
            widest = torch.promote_types(widest, adapter.dtype)
        return widest
    known = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPE_NAMES}
    if name not in known:
        raise PrefdeltaError(f"unknown dtype {name!r}; {did_you_mean(name, known)}")
    return known[name]
