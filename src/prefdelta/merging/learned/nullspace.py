"""The null-space ratio: the share of a module's inputs outside the row space of its adapter's A (NSC)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from prefdelta.adapters import Adapter
from prefdelta.adapters.applied import target_modules
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.tolerance import SVD_TOLERANCE
from prefdelta.merging.learned.data import Batch
from prefdelta.merging.learned.tasks import Objective

_SMALLEST = 1e-12  # of a squared ratio: the root has no slope at 0


def null_space_ratio(
    adapter: Adapter,
    model: nn.Module,
    *,
    run: Callable[[nn.Module, Batch], Any],
    counted: Callable[[Batch], Tensor],
) -> Objective:
    """√(1 - yᵀ(AAᵀ)⁻¹y / ‖x‖²) with y = A x, averaged over the tokens x of an item and its adapter's modules.

    It is the share of x's length that lies outside the rows of A, where the adapter does nothing with it. It falls
    while an adapter is trained, and a merge that makes it small again on the task's inputs gives the adapter's modules
    the inputs they were trained on. It needs neither labels nor logits, which makes it cheap for generative models.
    A module that reads the model's input directly adds a constant.

    Args:
        adapter: the task's own adapter.
        model: the model that the objective will be given; it says where the modules are.
        run: runs the model on a batch.
        counted: the tokens of a batch that count, ``(items, tokens)``.

    Returns:
        An objective with one value per item.

    Raises:
        PrefdeltaError: the adapter does not fit the model, or adapts more than linear layers.

    Source: NSC merging, arXiv 2603.26317.
    """
    target_modules(model, adapter)
    if adapter.info.storage:
        raise PrefdeltaError(f"{adapter.path} adapts more than linear layers; others have no null-space ratio.")
    bases = {module: _row_basis(adapter, module, model) for module in adapter.modules}

    def values(model: nn.Module, batch: Batch) -> Tensor:
        ratios: list[Tensor] = []
        mask = counted(batch)

        def measure(basis: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                ratios.append(_mean_over_tokens(outside(inputs[0].to(basis.dtype), basis), mask))

            return hook

        with ExitStack() as stack:
            for module, basis in bases.items():
                stack.callback(model.get_submodule(module).register_forward_pre_hook(measure(basis)).remove)
            run(model, batch)
        return torch.stack([ratio.to(ratios[0].device) for ratio in ratios]).mean(dim=0)

    return values


def outside(vectors: Tensor, basis: Tensor) -> Tensor:
    """‖x - Q Qᵀ x‖ / ‖x‖ over the last dimension, for a basis Q ``(d, r)`` with orthonormal columns; 0 for x = 0."""
    whole = vectors.square().sum(dim=-1)
    inside = (vectors @ basis).square().sum(dim=-1)
    share = 1 - inside / whole.clamp(min=torch.finfo(whole.dtype).tiny)
    return torch.where(whole > 0, share.clamp(min=_SMALLEST).sqrt(), 0.0)


def _mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """One value per item from ``(items, …)``."""
    flat = values.reshape(len(values), -1)
    if mask.shape != flat.shape:  # pooled inputs have no tokens to leave out
        return flat.mean(dim=1)
    kept = mask.to(flat.device, flat.dtype)
    return (flat * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)


def _row_basis(adapter: Adapter, module: str, model: nn.Module) -> Tensor:
    """An orthonormal basis ``(d_in, r)`` of the rows of A, where the module's weights are."""
    _, s, vt = torch.linalg.svd(adapter.load(module, torch.float64).A, full_matrices=False)
    weight = model.get_submodule(module).weight
    assert isinstance(weight, Tensor)
    basis = vt[s > SVD_TOLERANCE * s[0]].T
    return basis.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
