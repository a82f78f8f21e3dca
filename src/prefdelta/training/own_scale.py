"""The own scale of a trained delta, from held-out pairs: what a later merge of adapters alone can go by.

On the pairs that were trained on it would be too large: after four passes they are all preferred, however far the delta
went, while held-out ones tell that it went too far.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from prefdelta.adapters.trained import OwnScale
from prefdelta.training.data import Row
from prefdelta.training.reference import reference_logprobs

PAIRS = 200
"""At most so many are looked at, evenly spread."""

_LARGEST = 100.0
_HALVINGS = 60


def own_scale(
    base: PreTrainedModel, folder: Path, held_out: Sequence[Row], trained: Sequence[Row] = ()
) -> OwnScale | None:
    """The own scale of the adapter in ``folder``, by forward passes over at most :data:`PAIRS` held-out rows.

    Args:
        base: the model without any adapter; it is left so.
        folder: where the adapter was written.
        held_out: what it was not trained on; the last two responses of each are what is preferred and what is not.
        trained: what it was trained on; held-out rows of these prompts do not count.

    Returns:
        ``None`` where no rows are left, or they have one response each.
    """
    seen = {row.prompt for row in trained}
    rows = [row for row in held_out if row.prompt not in seen]
    if not rows or len(rows[0].responses) < 2:
        return None
    step = -(-len(rows) // PAIRS)
    looked_at = [Row(row.prompt, row.responses[-2:]) for row in rows[::step]]
    plain = reference_logprobs(base, looked_at, cache=None, fingerprint="").double()
    adapted = PeftModel.from_pretrained(base, str(folder))
    ratios = reference_logprobs(adapted, looked_at, cache=None, fingerprint="").double() - plain
    adapted.unload()
    margins = ratios[0] - ratios[1]
    return OwnScale(fitted_scale(margins), float(margins.mean()), len(looked_at))


def fitted_scale(margins: Tensor) -> float:
    r"""The c ≥ 0, at most 100, with the least mean of log(1 + exp(−c mⱼ)).

    The loss is convex in c, and flat where Σ mⱼ σ(−c mⱼ) = 0. The mean margin decides whether c is above 0; margins
    that are all positive have no minimum, and c is 100.

    Args:
        margins: ``(pairs,)``, m of a delta at λ = 1, of which c m is the first-order value at λ = c.

    Source: the temperature of Guo et al. (arXiv 1706.04599), on preferences instead of classes.
    """
    m = margins.double()

    def falls(c: float) -> bool:
        return float((m * (-c * m).sigmoid()).sum()) > 0

    low, high = 0.0, _LARGEST
    if not falls(low):
        return low
    if falls(high):
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) else (low, middle)
    return high
