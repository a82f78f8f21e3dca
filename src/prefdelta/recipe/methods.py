"""A merge method as recipes name it: ``ties``, or ``{name: ties, options: {density: 0.3}, scales: [0.5, 1]}``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prefdelta.core.config import Named
from prefdelta.core.folder_names import OptionalName, plain_label

Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A scale λ that a merge is multiplied by."""


class MergeMethod(Named):
    """A merge method with its options, the scales λ that it is tried at, and what it is called in results and folders.

    Without ``scales`` it is tried at those of the section that it stands in. Without ``label`` it is called by its
    name, followed by the options that are given.
    """

    scales: tuple[Scale, ...] | None = Field(
        default=None,
        min_length=1,
        description="Factors λ that this method is tried at, among them 1; left out, those of `merge`.",
    )
    label: OptionalName = Field(
        default=None,
        description=(
            "What the merge is called in results and folders; left out, its name followed by the given options, such "
            "as `ties-density-0.3`. No two may be called the same."
        ),
    )

    @property
    def called(self) -> str:
        """The ``label``, given or made from name and options; a plain name."""
        if self.label is not None:
            return self.label
        return plain_label("-".join([self.name, *(f"{key}-{value}" for key, value in sorted(self.options.items()))]))
