"""The settings that a method tries, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from prefdelta.recipe.suite import LearnedMethod, MergeMethod


@dataclass(frozen=True)
class Setting:
    """One setting. ``scale`` is applied to the finished merge; the rest decides its direction.

    Attributes:
        scale: λ.
        options: of a data-free merge, as sorted pairs.
        learning_rate: of a learned merge.
    """

    scale: float
    options: tuple[tuple[str, Any], ...] = ()
    learning_rate: float | None = None

    @property
    def label(self) -> str:
        """A name that tells it from a method's other settings."""
        parts = [f"{name}={value}" for name, value in self.options]
        if self.learning_rate is not None:
            parts.append(f"lr={self.learning_rate:g}")
        return ",".join([*parts, f"scale={self.scale:g}"])

    @property
    def direction(self) -> Setting:
        """The same at scale 1: settings with one direction need one merge."""
        return Setting(1.0, self.options, self.learning_rate)


def settings_of(method: MergeMethod | LearnedMethod) -> list[Setting]:
    """All settings that a method tries; those of one direction lie together."""
    if isinstance(method, LearnedMethod):
        return [Setting(scale, learning_rate=rate) for rate in method.learning_rates for scale in method.scales]
    names = sorted(method.options)
    return [
        Setting(scale, tuple(zip(names, values, strict=True)))
        for values in product(*(method.options[name] for name in names))
        for scale in method.scales
    ]
