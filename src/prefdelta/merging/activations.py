"""A sample of the inputs that a model's modules see, for merges that ask what an update does rather than what it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prefdelta.core.errors import PrefdeltaError


def collect_activations(
    model: nn.Module,
    batches: Iterable[Sequence[int]],
    modules: Sequence[str],
    output: Path,
    *,
    tokens: int = 512,
    seed: int = 0,
) -> dict[str, int]:
    """Run sequences through a model and store a uniform sample of each module's inputs, float32.

    The sample is a reservoir (Vitter's algorithm R) of token positions, the same for all modules, so memory is
    ``tokens`` rows for each module however long the text is.

    Args:
        model: with the adapter whose inputs are wanted already on it, in evaluation mode.
        batches: token ids, one sequence at a time.
        modules: names in ``model.named_modules()``; they are also the names in the file.
        output: the safetensors file to write, module → ``(tokens, d_in)``.
        tokens: how many rows to keep at most.
        seed: draws the sample.

    Returns:
        The number of rows stored for each module.

    Raises:
        PrefdeltaError: a module is not in the model or is not given every token, or there were no tokens.
    """
    found = dict(model.named_modules())
    missing = sorted(set(modules) - set(found))
    if missing:
        raise PrefdeltaError(f"the model has no module {missing[0]}, so its inputs cannot be collected.")
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).to("cpu", torch.float32)

        return take

    handles = [found[name].register_forward_pre_hook(hook(name)) for name in modules]
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    kept: dict[str, list[Tensor]] = {name: [] for name in modules}
    total = 0
    try:
        for ids in batches:
            if not len(ids):
                continue
            with torch.no_grad():
                seen.clear()
                model(torch.tensor([list(ids)], device=device))
            for name in modules:
                if name not in seen or len(seen[name]) != len(ids):
                    raise PrefdeltaError(
                        f"module {name} is not given every token of a sequence, as the experts of a mixture are not, "
                        "so its inputs cannot be collected; leave it out."
                    )
            places = _reservoir(total, len(ids), tokens, generator)
            total += len(ids)
            for name in modules:
                for place, row in places:
                    kept[name][place : place + 1] = [seen[name][row].clone()]
    finally:
        for handle in handles:
            handle.remove()
    if not total:
        raise PrefdeltaError("there are no tokens to collect activations from.")
    save_file({name: torch.stack(kept[name]) for name in sorted(kept)}, output)
    return {name: len(kept[name]) for name in sorted(kept)}


def _reservoir(seen: int, count: int, size: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """(place in the sample, row of the new block) for the new rows that enter it."""
    moves = []
    for row in range(count):
        position = seen + row
        place = position if position < size else int(torch.randint(position + 1, (1,), generator=generator))
        if place < size:
            moves.append((place, row))
    return moves
