"""Baking an adapter, or a merge of several, into their base model: no adapter in between, no limit on the rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prefdelta.adapters import Adapter
from prefdelta.core.outputs import check_place
from prefdelta.merging.baking.bake import Dtype, bake, open_base
from prefdelta.merging.baking.report import ApplyReport
from prefdelta.merging.baking.updates import AdapterUpdates, MergedUpdates
from prefdelta.merging.inputs import prepare, refuse_base_copies, refuse_trained_tensors
from prefdelta.merging.registry import Options
from prefdelta.merging.scale import Scale, check_scale
from prefdelta.recipe import ModelRef

_OTHERWISE = "use PEFT's merge_and_unload for this adapter"


def apply_adapter(
    base: ModelRef | Path | str,
    adapter: Path | str,
    output: Path | str,
    *,
    scale: float = 1.0,
    dtype: Dtype = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ApplyReport:
    """Bake an adapter into its base model: every adapted weight becomes round(W + λ ΔW).

    Reads and writes safetensors block by block: memory does not grow with the model. The shards keep their names and
    their tensors; configuration and tokenizer files are copied. The output folder appears whole or not at all, and
    holds ``prefdelta_apply.json`` (the report that is returned). The sum is made in float64 and rounded once. The
    same inputs give the same bytes.

    A base that shares one weight between embedding and output head is untied where the adapter changes one of the two,
    which is what the adapted model computes.

    Args:
        base: a model folder with safetensors weights.
        adapter: a PEFT LoRA adapter of it.
        output: the folder to make.
        scale: λ, on top of the adapter's own scaling.
        dtype: store floating-point weights in this type; ``"auto"`` keeps each tensor's own.
        overwrite: replace a folder that is there already.
        progress: called with (bytes written, bytes in all).

    Raises:
        PrefdeltaError: an input cannot be read, an adapted module is not in the base or has another shape, the
            adapter holds more than low-rank updates, a sum does not fit the type, or the output cannot be written.
    """
    check_scale(scale)
    model, opened, target = open_base(base), Adapter.open(adapter), Path(output)
    check_place(target, [opened.path])
    refuse_trained_tensors(opened, _OTHERWISE)
    refuse_base_copies([opened], model.folder, _OTHERWISE)
    updates = AdapterUpdates(opened, scale)
    return bake(model, updates, target, dtype=dtype, overwrite=overwrite, progress=progress)


def apply_merge(
    base: ModelRef | Path | str,
    adapters: Sequence[Path | str],
    output: Path | str,
    *,
    method: str,
    weights: Sequence[float] | None = None,
    scale: Scale = 1.0,
    options: Mapping[str, Any] | Options | None = None,
    dtype: Dtype = "auto",
    extra_weights: Literal["refuse", "drop"] = "refuse",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ApplyReport:
    """Merge LoRA adapters and bake the result into their base: every adapted weight becomes round(W + λ M).

    Methods that work entry by entry on ΔW (``ties``, ``dare``, … in the full space) have results of full rank. Here
    they are added as they are, computed in float32 block by block; nothing is cut, unless the option ``rank`` asks
    for it. Every other method gives what :func:`prefdelta.merging.merge` would store, but unrounded.

    Everything else is as in :func:`apply_adapter`: memory does not grow with the model, and
    the output appears whole or not at all. One module's full-rank update at a time lies in a temporary file beside the
    output, four bytes an entry. ``prefdelta_apply.json`` holds the report of the merge too.

    Args:
        base: a model folder with safetensors weights.
        adapters: PEFT LoRA adapters of it; their order is the order of ``weights``.
        output: the folder to make.
        method: a name of :data:`prefdelta.merging.METHODS`.
        weights: one per adapter, all 1 if left out; the method says what they mean.
        scale: λ, or ``"norm-matched"`` or ``"projection"``, as in a merge.
        options: the method's own options.
        dtype: store floating-point weights in this type; ``"auto"`` keeps each tensor's own.
        extra_weights: what to do with fully trained tensors beside the factors: refuse them, or drop them.
        overwrite: replace a folder that is there already.
        progress: called with (bytes written, bytes in all).

    Raises:
        PrefdeltaError: an input cannot be read, inputs do not fit together or do not fit the base, an argument is
            wrong, a sum does not fit the type, or the output cannot be written. Nothing is left behind.
    """
    target = Path(output)
    inputs = prepare(
        adapters, target, method=method, options=options, weights=weights, scale=scale, extra_weights=extra_weights
    )
    model = open_base(base)
    if extra_weights == "refuse":
        refuse_base_copies(inputs.adapters, model.folder)
    updates = MergedUpdates(inputs, dtype)
    return bake(model, updates, target, dtype=dtype, overwrite=overwrite, progress=progress)
