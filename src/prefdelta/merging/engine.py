"""The merge engine: adapters in, one adapter out, a module or two in memory at a time."""

from __future__ import annotations

import math
import os
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from prefdelta.adapter import SERVABLE_RANKS, Adapter, AdapterInfo, staged_folder, write_files
from prefdelta.adapter.config import common_info
from prefdelta.adapter.writer import DTYPE_NAMES
from prefdelta.errors import PrefdeltaError, did_you_mean
from prefdelta.lowrank import LowRank
from prefdelta.merging.average import shares
from prefdelta.merging.gram import gram, inner_products
from prefdelta.merging.labels import tell_apart
from prefdelta.merging.registry import Method, Options, get_method
from prefdelta.merging.report import InputAdapter, MergeReport, ModuleReport, list_names, model_card, public_name, ratio
from prefdelta.merging.scale import Scale, check_scale, factor_for
from prefdelta.merging.threads import one_thread

REPORT_NAME = "prefdelta_merge.json"

_WORKERS = 2  # modules merged at once, each on one thread; memory grows with it
_DOMINANT = 5.0  # an update this many times the median of the others decides the merge alone
_UNDETERMINED = 1e-6  # a principal cosine below this leaves an alignment to rounding


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
        overwrite: replace a folder that is there already.
        progress: called with (modules done, modules in all).

    Raises:
        PrefdeltaError: an input cannot be read, inputs do not fit together, an argument is wrong, or the output
            cannot be written. Nothing is left behind.
    """
    chosen = get_method(method)
    checked = chosen.parse(options)
    target = Path(output)
    opened = [Adapter.open(path) for path in adapters]
    _check_arguments(opened, target, weights, scale, rank, extra_weights)
    stored = _dtype(dtype, opened)
    labels = tell_apart([adapter.path for adapter in opened])
    modules = _common_modules(opened, labels)
    info = common_info(adapter.info for adapter in opened)
    if any(adapter.extra for adapter in opened):
        info = replace(info, task_type=None)

    walk = _Walk(opened, chosen, checked, [1.0] * len(opened) if weights is None else list(weights), scale, rank)
    with staged_folder(target, overwrite=overwrite) as folder, one_thread():
        stream = walk.stream(modules, progress)
        ranks = write_files(folder, stream, like=info, dtype=stored, rank="servable" if rank == "servable" else rank)
        report = walk.report(labels, info, stored, ranks)
        (folder / REPORT_NAME).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(report, info.base_model), encoding="utf-8")
    return report


class _Done(NamedTuple):
    """One merged module: its report, its scaled update, ‖ΔWᵢ‖ and ⟨result, ΔWᵢ⟩ of every adapter."""

    entry: ModuleReport
    delta: LowRank
    norms: Sequence[float]
    inner: Sequence[float]


class _Walk:
    """One pass over the modules, which gathers the report as it goes."""

    def __init__(
        self,
        adapters: Sequence[Adapter],
        method: Method,
        options: Options,
        weights: Sequence[float],
        scale: Scale,
        rank: int | str | None,
    ) -> None:
        self._adapters = adapters
        self._method = method
        self._options = options
        self._weights = weights
        self._scale = scale
        self._rank = rank
        self._modules: list[ModuleReport] = []
        self._norms = [0.0] * len(adapters)  # squared, per adapter
        self._empty = [0] * len(adapters)
        self._inner = [0.0] * len(adapters)  # ⟨result, update⟩ over all modules

    def stream(
        self, modules: Sequence[str], progress: Callable[[int, int], None] | None
    ) -> Iterator[tuple[str, LowRank]]:
        """Merge module by module, a few at a time; results come in the order of ``modules``."""
        ahead = min(_WORKERS, os.cpu_count() or 1)
        waiting: deque[Future[_Done]] = deque()
        left = iter(modules)
        with ThreadPoolExecutor(ahead, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting.extend(pool.submit(self._merge_module, module) for module in islice(left, ahead))
            for count in range(1, len(modules) + 1):
                done = waiting.popleft().result()
                yield done.entry.module, self._noted(done)
                # The next one starts only now, so that no more than ``ahead`` modules are ever in memory.
                waiting.extend(pool.submit(self._merge_module, module) for module in islice(left, 1))
                if progress is not None:
                    progress(count, len(modules))

    def _merge_module(self, module: str) -> _Done:
        """Load, merge, cut, scale. Pure but for reading, so that it may run on any thread."""
        present = [index for index, adapter in enumerate(self._adapters) if module in adapter.modules]
        shape = self._adapters[present[0]].shape(module)
        deltas = [
            adapter.load(module, torch.float64) if index in present else LowRank.zero(shape)
            for index, adapter in enumerate(self._adapters)
        ]
        merged = self._method.run(deltas, weights=self._weights, options=self._options, module=module)
        delta, kept = merged.delta, merged.notes.get("kept_energy", 1.0)
        limit = SERVABLE_RANKS[-1] if self._rank == "servable" else self._rank
        if isinstance(limit, int) and delta.rank > limit:
            delta, left = delta.truncated(limit)
            kept *= left
        products = gram(deltas)
        norms = products.diagonal().clamp(min=0).sqrt().tolist()
        inner = inner_products(delta, deltas)
        norm = delta.norm()
        factor = factor_for(self._scale, norm=norm, inner=inner, norms=norms, weights=self._weights)
        share = torch.tensor(plain_shares(self._weights), dtype=torch.float64)
        average = math.sqrt(max(float(share @ products @ share), 0.0))
        agreement = math.copysign(1.0, factor) * float(share @ torch.tensor(inner, dtype=torch.float64))
        entry = ModuleReport(
            module=module,
            shape=delta.shape,
            rank=delta.rank,
            adapters=tuple(present),
            norm=abs(factor) * norm,
            average_norm=average,
            norm_ratio=ratio(abs(factor) * norm, average),
            cosine_to_average=ratio(agreement, norm * average),
            scale=factor,
            kept_energy=kept,
            notes=merged.notes,
        )
        return _Done(entry, delta.scaled(factor).balanced(), norms, [factor * value for value in inner])

    def _noted(self, done: _Done) -> LowRank:
        for index, (norm, inner) in enumerate(zip(done.norms, done.inner, strict=True)):
            self._norms[index] += norm**2
            self._inner[index] += inner
            self._empty[index] += index in done.entry.adapters and norm == 0.0
        self._modules.append(done.entry)
        return done.delta

    def report(
        self, labels: Sequence[str], info: AdapterInfo, dtype: torch.dtype, ranks: Mapping[str, int]
    ) -> MergeReport:
        """The report of the finished pass."""
        norm = math.sqrt(sum(entry.norm**2 for entry in self._modules))
        average = math.sqrt(sum(entry.average_norm**2 for entry in self._modules))
        lost = sum(entry.norm**2 * (1 / entry.kept_energy - 1) for entry in self._modules if entry.kept_energy)
        cosines = [entry.notes["smallest_cosine"] for entry in self._modules if "smallest_cosine" in entry.notes]
        inputs = tuple(
            InputAdapter(
                name=label,
                fingerprint=adapter.fingerprint,
                base_model=public_name(adapter.base_model),
                weight=weight,
                modules=len(adapter.modules),
                ranks=tuple(sorted({adapter.rank(module) for module in adapter.modules})),
                norm=math.sqrt(squared),
                kept_projection=ratio(inner, squared),
                empty_modules=empty,
                dropped_tensors=adapter.extra,
            )
            for label, adapter, weight, squared, inner, empty in zip(
                labels, self._adapters, self._weights, self._norms, self._inner, self._empty, strict=True
            )
        )
        kept = norm**2 / (norm**2 + lost) if lost else 1.0
        return MergeReport(
            version=metadata.version("prefdelta"),
            method=self._method.name,
            options=self._options.model_dump(mode="json"),
            scale=self._scale,
            rank=self._rank,
            dtype=str(dtype).removeprefix("torch."),
            adapters=inputs,
            norm=norm,
            average_norm=average,
            norm_ratio=ratio(norm, average),
            cosine_to_average=ratio(
                sum(part * value for part, value in zip(plain_shares(self._weights), self._inner, strict=True)),
                norm * average,
            ),
            smallest_cosine=min(cosines, default=None),
            kept_energy=kept,
            stored_ranks=tuple(sorted(set(ranks.values()))),
            warnings=tuple(self._warnings(inputs, info, kept)),
            modules=tuple(self._modules),
        )

    def _warnings(self, inputs: Sequence[InputAdapter], info: AdapterInfo, kept: float) -> Iterator[str]:
        bases = sorted({entry.base_model or "(none)" for entry in inputs})
        # The same model may go by a name on the Hub in one adapter and by a folder in another.
        if len({base.rpartition("/")[2].lower() for base in bases}) > 1:
            yield f"the adapters name different base models ({list_names(bases)}); the first one's is kept."
        tasks = sorted({str(adapter.info.task_type) for adapter in self._adapters})
        if len(tasks) > 1:
            yield f"the adapters name different task types ({', '.join(tasks)}); the result names none."
        for entry in inputs:
            if entry.dropped_tensors:
                yield f"{entry.name}: dropped the trained tensors {list_names(entry.dropped_tensors)}."
            if entry.norm == 0:
                yield f"{entry.name}: its update is zero everywhere; it was never trained."
            elif entry.empty_modules:
                yield f"{entry.name}: its update is zero in {entry.empty_modules} of {entry.modules} modules."
        partial = [entry.module for entry in self._modules if len(entry.adapters) < len(inputs)]
        if partial:
            count = f"{len(partial)} of {len(self._modules)}"
            yield f"{count} modules are not adapted by every adapter ({list_names(partial)})."
        yield from _dominance(inputs)
        if kept < 1 - 1e-9:
            limit = "a limited rank" if self._rank is None else f"rank {self._rank}"
            yield f"truncation to {limit} kept {kept:.4f} of the merged update's squared norm."
        yield from self._alignment_warnings()

    def _alignment_warnings(self) -> Iterator[str]:
        low = [entry.module for entry in self._modules if entry.notes.get("smallest_cosine", 1.0) < _UNDETERMINED]
        if low:
            yield (
                f"in {len(low)} modules some directions are orthogonal to the reference's ({list_names(low)}); "
                "their alignment is not determined."
            )
        wanted = getattr(self._options, "reference", None)
        moved = [entry.module for entry in self._modules if entry.notes.get("reference", wanted) != wanted]
        if moved:
            yield (
                f"in {len(moved)} modules the adapter of the largest rank stood in for the reference "
                f"({list_names(moved)})."
            )


def plain_shares(weights: Sequence[float]) -> list[float]:
    """The weights of the plain average that a merge is compared with; equal ones where they have no positive sum."""
    return shares(weights) if sum(weights) > 0 else shares([1.0] * len(weights))


def _dominance(inputs: Sequence[InputAdapter]) -> Iterator[str]:
    largest = max(inputs, key=lambda entry: entry.norm)
    others = [entry.norm for entry in inputs if entry is not largest and entry.norm]
    if others and largest.norm > _DOMINANT * statistics.median(others):
        times = largest.norm / statistics.median(others)
        yield f"{largest.name}: its update is {times:.1f} times the median of the others, so it decides the merge."


def _check_arguments(
    adapters: Sequence[Adapter],
    target: Path,
    weights: Sequence[float] | None,
    scale: Scale,
    rank: int | str | None,
    extra_weights: str,
) -> None:
    if not adapters:
        raise PrefdeltaError("there is nothing to merge; give at least one adapter.")
    if weights is not None and len(weights) != len(adapters):
        raise PrefdeltaError(f"{len(weights)} weights were given for {len(adapters)} adapters.")
    if weights is not None and not all(math.isfinite(weight) for weight in weights):
        raise PrefdeltaError(f"merge weights must be finite, not {list(weights)}.")
    check_scale(scale)
    if not (rank is None or rank == "servable" or (isinstance(rank, int) and rank > 0)):
        raise PrefdeltaError(f"the rank must be a positive whole number or 'servable', not {rank!r}.")
    if extra_weights not in ("refuse", "drop"):
        raise PrefdeltaError(f"extra_weights must be 'refuse' or 'drop', not {extra_weights!r}.")
    place = target.resolve()
    for adapter in adapters:
        source = adapter.path.resolve()
        if source == place or place in source.parents:
            raise PrefdeltaError(f"the output {target} would replace the input {adapter.path}; choose another folder.")
        if adapter.extra and extra_weights == "refuse":
            raise PrefdeltaError(
                f"{adapter.path} holds fully trained tensors beside its LoRA factors ({list_names(adapter.extra)}), "
                "and there is no meaningful merge of task heads; allow dropping them to merge the factors alone."
            )


def _common_modules(adapters: Sequence[Adapter], labels: Sequence[str]) -> list[str]:
    """The union of the modules, sorted, after checking that they fit."""
    shapes: dict[str, tuple[tuple[int, int], str]] = {}
    for adapter, label in zip(adapters, labels, strict=True):
        for module in adapter.modules:
            shape, first = shapes.setdefault(module, (adapter.shape(module), label))
            if shape != adapter.shape(module):
                raise PrefdeltaError(
                    f"module {module} is {shape[0]}x{shape[1]} in {first} but {adapter.shape(module)[0]}x"
                    f"{adapter.shape(module)[1]} in {label}; the adapters belong to different base models."
                )
    embeddings = common_info(adapter.info for adapter in adapters).embeddings
    for index, adapter in enumerate(adapters):
        own = set(adapter.modules)
        clash = sorted((own & embeddings) - adapter.info.embeddings)
        if clash:
            raise PrefdeltaError(f"module {clash[0]} is a linear layer in {labels[index]} but an embedding in another.")
        others = {module for place, other in enumerate(adapters) if place != index for module in other.modules}
        if len(adapters) > 1 and not own & others:
            raise PrefdeltaError(
                f"{labels[index]} shares no module with the other adapters (it adapts {list_names(adapter.modules)}); "
                "they belong to different base models."
            )
    return sorted(shapes)


def _dtype(name: str | None, adapters: Sequence[Adapter]) -> torch.dtype:
    if name is None:
        widest = adapters[0].dtype
        for adapter in adapters[1:]:
            widest = torch.promote_types(widest, adapter.dtype)
        return widest
    known = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPE_NAMES}
    if name not in known:
        raise PrefdeltaError(f"unknown dtype {name!r}; {did_you_mean(name, known)}")
    return known[name]
