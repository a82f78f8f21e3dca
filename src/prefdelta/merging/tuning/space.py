"""What tuning tries: methods, scales, members and weights; checked without torch, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.registry import configured, get_method
from prefdelta.merging.scale import Scale, check_scale
from prefdelta.recipe.selection import LEAST_BUDGET


@dataclass(frozen=True)
class Space:
    """What is tried.

    Attributes:
        methods: merge methods, the first of equals is preferred.
        scales: numbers above 0, or rules (``norm-matched``, ``projection``); or ``auto`` for a search over log λ that
            looks at the same norms for every merge, see :func:`prefdelta.merging.tuning.line_search.maximise`.
        select: whether greedy selection looks for a subset of the adapters, with the grid's best method.
        leave_one_out: whether each adapter's part in the best merge is measured.
        weight_trials: at most how many weights are tried on the best merge; 0 for none.
        budget: at most how many λ of one merge ``auto`` scores.
        compare: whether the plain average at λ = 1 and every adapter by itself are tried too.
        weights: of the adapters in the merges of all of them; all 1 if left out.
    """

    methods: tuple[str, ...] = ("average", "gam")
    scales: tuple[Scale, ...] | Literal["auto"] = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    select: bool = False
    leave_one_out: bool = False
    weight_trials: int = 0
    budget: int = 9
    compare: bool = True
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.methods or not self.scales:
            raise PrefdeltaError("tuning needs at least one method and one scale.")
        for method in self.methods:
            get_method(method)
        if self.budget < LEAST_BUDGET:
            raise PrefdeltaError(f"a search over λ takes a budget of at least {LEAST_BUDGET}, not {self.budget}.")
        for scale in () if self.scales == "auto" else self.scales:
            check_scale(scale)
            if not isinstance(scale, str) and scale <= 0:
                raise PrefdeltaError(f"tuning tries scales above 0, not {scale:g}; the base is scored in any case.")
        if self.weight_trials < 0:
            raise PrefdeltaError(f"the number of weights to try must not be negative, but is {self.weight_trials}.")

    def evaluations(self, adapters: int) -> int:
        """The most evaluations that tuning of so many adapters takes."""
        scales = self.budget if self.scales == "auto" else len(self.scales)
        grid_size = scales * len(self.methods)
        subsets = adapters * (adapters + 1) // 2 if self.select else 0
        left_out = adapters if self.leave_one_out else 0
        references = (
            adapters if any("reference" in get_method(name).options.model_fields for name in self.methods) else 0
        )
        compared = 1 + adapters if self.compare else references
        return 1 + compared + grid_size + (subsets + left_out) * scales + self.weight_trials

    def check_options(self, options: Mapping[str, Mapping[str, Any]], adapters: int) -> None:
        """Check the methods' own options, by method, and that each method takes so many adapters.

        Raises:
            PrefdeltaError: an option is unknown or has a bad value, or is given for a method that is not tried.
        """
        for method in options:
            if method not in self.methods:
                raise PrefdeltaError(f"options are given for {method}, which is not among the methods that are tried.")
        for method in self.methods:
            configured(method, options.get(method), adapters)
