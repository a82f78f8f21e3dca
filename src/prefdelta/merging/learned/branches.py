"""Branches of a learned merge on a frozen model: only the coefficients get gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from prefdelta.adapters import applied
from prefdelta.adapters.applied import Branch, branch_dtype, carries_branch
from prefdelta.adapters.storage import layer_path
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.learned.directions import Directions

Coefficients = Callable[[str], Tensor]  # module → φ


def on_module_device(model: nn.Module, module: str, directions: Directions) -> Directions:
    """Directions on their module's device, in float32, or in the module's own format if that is wider.

    Raises:
        PrefdeltaError: the module is of a kind that a branch cannot be put on.
    """
    target = model.get_submodule(layer_path(module))
    if not carries_branch(target):
        raise PrefdeltaError(
            f"module {module} is a {type(target).__name__}; only linear layers and plain embeddings can carry a branch."
        )
    weight = target.weight
    assert isinstance(weight, Tensor)
    return directions.to(weight.device, branch_dtype(target))


@contextmanager
def branches(model: nn.Module, directions: Mapping[str, Directions], coefficients: Coefficients) -> Iterator[nn.Module]:
    """The model with ΔW(φ) beside its weights, for the length of a ``with`` block.

    Outputs are those of the model with :meth:`Directions.fold` added to its weights, up to rounding; see
    :func:`prefdelta.adapters.applied.branches`.

    Args:
        model: any model of ``torch``; its weights are not touched.
        directions: module → directions, as :func:`on_module_device` gives them.
        coefficients: asked for a module's φ at every forward pass.
    """

    def update(name: str, parts: Directions) -> Callable[[], Branch]:
        def now() -> Branch:
            core = parts.core(coefficients(name).to(parts.left.device, parts.left.dtype))
            return Branch(parts.left, core, parts.right)

        return now

    with applied.branches(model, {name: update(name, parts) for name, parts in directions.items()}) as branched:
        yield branched
