"""The options of every merge method: checked when a plan is made, which is why nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_serializer, model_validator

from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.tolerance import SVD_TOLERANCE
from prefdelta.merging.registry import Options


class FullOptions(Options):
    """``rank`` of the result, an approximation close to the best of that rank; the sum of the ranks if left out."""

    rank: int | None = Field(default=None, gt=0)


class KnotsOptions(Options):
    """``shared``: which basis the updates share, that of the module's ``output`` (the paper's) or of its ``input``."""

    shared: Literal["output", "input"] = "output"


class CompressedOptions(Options):
    """``rank`` of the result (the largest input rank if left out), and ``beta``, how far norms count.

    At ``beta`` 1 the subspaces fit the updates as they are, so that large ones prevail; at 0 all count alike.
    """

    rank: int | None = Field(default=None, gt=0)
    beta: float = Field(default=0.25, ge=0, le=1)


class MagnitudeOptions(Options):
    """``density``: the share of each update's entries that is kept, those of largest magnitude."""

    density: float = Field(default=0.2, gt=0, le=1)


class BreadcrumbsOptions(Options):
    """Of the entries ordered by magnitude, drop the top share ``outliers``, then keep ``density``, drop the rest."""

    density: float = Field(default=0.9, gt=0, le=1)
    outliers: float = Field(default=0.01, ge=0, lt=1)


class RandomOptions(Options):
    """``density`` is the chance of an entry to be kept; ``seed`` draws the masks."""

    density: float = Field(default=0.5, gt=0, le=1)
    seed: int = Field(default=0, ge=0)


class DellaOptions(Options):
    """Keep chances run from ``density - spread`` to ``density + spread`` within a row; ``seed`` draws the masks."""

    density: float = Field(default=0.5, gt=0, le=1)
    spread: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _chances(self) -> DellaOptions:
        if self.density < 1 and not (self.density - self.spread > 0 and self.density + self.spread <= 1):
            raise ValueError("density - spread must be above 0 and density + spread at most 1")
        return self


class SceOptions(Options):
    """``density``: the share of the varying entries that is kept, those that vary most between the updates."""

    density: float = Field(default=0.1, gt=0, le=1)


class GamOptions(Options):
    """Options of GAM.

    ``reference`` is the position of the adapter that the others are aligned to; the paper takes the one that does
    best on validation. ``chordal-mean`` aligns all of them to the subspaces nearest to theirs on average (in chordal
    distance), which needs no choice and does not depend on the adapters' order.

    A direction whose singular value is at most ``tolerance`` times the module's largest is treated as absent: GAM
    weighs all directions alike, so one made of rounding noise would count in full.
    """

    reference: Annotated[int, Field(ge=0)] | Literal["chordal-mean"] = 0
    tolerance: float = Field(default=1e-7, ge=0, lt=1)

    def check_count(self, count: int) -> None:
        """See :meth:`Options.check_count`: the reference is one of the adapters."""
        if isinstance(self.reference, int) and self.reference >= count:
            raise PrefdeltaError(f"GAM's reference is {self.reference}, but there are {count} adapters (from 0).")


class LegoOptions(Options):
    """``rank`` of the result, the number of clusters; the largest rank of the inputs if left out."""

    rank: int | None = Field(default=None, gt=0)


class RegmeanOptions(Options):
    """Where the activations are, and how far they are trusted.

    ``activations`` names one safetensors file for each adapter, in the adapters' order, as
    :func:`prefdelta.merging.activations.collect_activations` writes them: module name → inputs (tokens, d_in).
    ``shrink`` multiplies the off-diagonal entries of XᵀX; the paper's value for language models is 0.9. ``ridge``
    times the mean diagonal is added to the diagonal, for inputs that never occur.
    """

    activations: tuple[Path, ...] = Field(min_length=1)
    shrink: float = Field(default=0.9, ge=0, le=1)
    ridge: float = Field(default=1e-4, gt=0)

    def check_count(self, count: int) -> None:
        """See :meth:`Options.check_count`: one file of activations for each adapter."""
        if len(self.activations) != count:
            files = len(self.activations)
            raise PrefdeltaError(f"merge method regmean: {files} activation files were given for {count} adapters.")

    @field_serializer("activations", when_used="json")
    def _names(self, activations: tuple[Path, ...]) -> list[str]:
        # Reports are published; they never tell a whole path of the machine that made them.
        return [path.name for path in activations]


class RobustOptions(Options):
    """``density``: the share of each factor's entries that is kept, those of largest magnitude."""

    density: float = Field(default=0.8, gt=0, le=1)


class TsvOptions(Options):
    """Singular values at most ``tolerance`` times the largest count as zero, in updates and between them.

    All directions weigh alike in the orthogonalisation, so one made of rounding noise would count in full.
    """

    tolerance: float = Field(default=1e-7, ge=0, lt=1)


class IsoOptions(Options):
    """Directions of the sum with a singular value of at most ``tolerance`` times the largest count as absent."""

    tolerance: float = Field(default=1e-7, ge=0, lt=1)


class IsoCtsOptions(IsoOptions):
    """``common``: the share of the result's directions that is taken from the sum, the rest from the updates."""

    common: float = Field(default=0.8, gt=0, le=1)


class NuslerpOptions(Options):
    """``per``: interpolate the whole ``matrix``, or each ``row`` or ``column`` of ΔW along its own great circle."""

    per: Literal["matrix", "row", "column"] = "matrix"


class KarcherOptions(Options):
    """The iteration ends when a step is shorter than ``tolerance`` radians, or after ``steps`` of them."""

    tolerance: float = Field(default=1e-10, gt=0)
    steps: int = Field(default=200, gt=0)


class SvdOptions(Options):
    """``rank`` of the result; the largest rank of the inputs if left out."""

    rank: int | None = Field(default=None, gt=0)


class ProjectionOptions(Options):
    """Eigenvalues of the updates' cosine matrix at most ``tolerance`` times its largest count as zero.

    Nearly parallel updates of different size ask for contradictory projections; the tolerance decides from which
    angle on they are answered with a compromise instead of a large difference of the two.
    """

    tolerance: float = Field(default=1e-3, ge=SVD_TOLERANCE, lt=1)


class TruncationOptions(Options):
    """Of each update, the fewest leading singular directions that hold a share ``energy`` of ‖ΔWᵢ‖² are kept.

    ``directions`` says their number instead, the same for every update and module.
    """

    energy: float = Field(default=0.5, gt=0, le=1)
    directions: int | None = Field(default=None, gt=0)


class TruncateTiesOptions(TruncationOptions, FullOptions, MagnitudeOptions):
    """Options of truncate-ties: those of truncate, the density of ties, and the result's rank.

    ``rank`` is the sum of the updates' ranks if left out.
    """
