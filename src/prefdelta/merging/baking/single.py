"""``prefdelta apply``: one adapter into its base model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefdelta.adapters import Adapter
from prefdelta.core.outputs import check_place
from prefdelta.merging.baking.bake import Dtype, bake, open_base
from prefdelta.merging.baking.report import ApplyReport
from prefdelta.merging.baking.updates import AdapterUpdates
from prefdelta.merging.inputs import refuse_base_copies, refuse_trained_tensors
from prefdelta.merging.scale import check_scale
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
