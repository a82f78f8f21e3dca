"""The merge methods of this package: names, summaries, sources and options. Their functions are in the other modules.

Nothing here imports torch, so that names, options and numbers of adapters are checked in a fraction of a second.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from pydantic import create_model

from prefdelta.merging.methods.options import (
    BreadcrumbsOptions,
    CompressedOptions,
    DellaOptions,
    FullOptions,
    GamOptions,
    IsoCtsOptions,
    IsoOptions,
    KarcherOptions,
    KnotsOptions,
    LegoOptions,
    MagnitudeOptions,
    NuslerpOptions,
    ProjectionOptions,
    RandomOptions,
    RegmeanOptions,
    RobustOptions,
    SceOptions,
    SvdOptions,
    TruncateTiesOptions,
    TruncationOptions,
    TsvOptions,
)
from prefdelta.merging.registry import METHODS, Method, Options, declare


class Half(NamedTuple):
    """A space or a rule: its part of a method's name and of its summary, where it comes from, and its options."""

    name: str
    summary: str
    paper: str
    options: type[Options]


SPACES: dict[str, Half] = {
    half.name: half
    for half in (
        Half("", "entry by entry of ΔW", "", FullOptions),
        Half("knots-", "over the output basis that the updates share", "KnOTS, arXiv 2410.19735", KnotsOptions),
        Half("core-", "in Core Space", "Core Space, arXiv 2509.17786", Options),
        Half(
            "ctm-",
            "in two shared subspaces of the result's rank",
            "Compress then Merge, arXiv 2606.03723",
            CompressedOptions,
        ),
    )
}
"""The spaces that entries are combined in, by prefix; :mod:`prefdelta.merging.methods.spaces` enters them."""

_TIES = "TIES-Merging, arXiv 2306.01708"
_DARE = "DARE, arXiv 2311.03099"
_CRUMBS = "Model Breadcrumbs, arXiv 2312.06795"
_DELLA = "DELLA-Merging, arXiv 2406.11617"
_SCE = "FuseChat 2.0 (SCE), arXiv 2408.07990"

RULES: dict[str, Half] = {
    half.name: half
    for half in (
        Half("ties", "keep the largest entries, elect signs, average the agreeing", _TIES, MagnitudeOptions),
        Half("magnitude-prune", "keep the largest entries, weighted sum", _TIES, MagnitudeOptions),
        Half("dare", "drop entries at random, rescale the rest, weighted sum", _DARE, RandomOptions),
        Half("dare-ties", "drop entries at random, rescale, elect signs, average", f"{_DARE}; {_TIES}", RandomOptions),
        Half("breadcrumbs", "drop the largest and the smallest entries, weighted sum", _CRUMBS, BreadcrumbsOptions),
        Half(
            "breadcrumbs-ties",
            "drop the largest and smallest entries, elect signs, average",
            f"{_CRUMBS}; {_TIES}",
            BreadcrumbsOptions,
        ),
        Half(
            "della",
            "drop small entries more often, rescale, elect signs, average",
            f"{_DELLA}; {_TIES}",
            DellaOptions,
        ),
        Half("della-linear", "drop small entries more often, rescale, weighted sum", _DELLA, DellaOptions),
        Half(
            "sce",
            "keep the entries that vary most, weigh updates by their squares, drop the minority sign",
            _SCE,
            SceOptions,
        ),
    )
}
"""The element-wise rules by name; :mod:`prefdelta.merging.methods.rules` applies them."""


def _combined(space: Half, rule: Half) -> Method:
    name = space.name + rule.name
    title = "".join(part.capitalize() for part in name.split("-"))
    # The common base class cannot stand before its own subclass.
    bases = tuple(base for base in (space.options, rule.options) if base is not Options)
    described = f"Options of {name}: those of its space and those of its rule."
    return declare(
        name,
        summary=f"{rule.summary[0].upper()}{rule.summary[1:]}, {space.summary}.",
        paper="; ".join(part for part in (rule.paper, space.paper) if part),
        module="prefdelta.merging.methods.combined",
        options=cast(type[Options], create_model(f"{title}Options", __base__=bases, __doc__=described)),
    )


declare(
    "average",
    summary="Weighted mean of the updates, exact, at the sum of their ranks.",
    paper="PDA-Averaging in arXiv 2606.00357; model soups, arXiv 2203.05482.",
    module="prefdelta.merging.methods.average",
)

COMBINED: dict[str, Method] = {
    found.name: found for found in (_combined(space, rule) for space in SPACES.values() for rule in RULES.values())
}
"""The methods that are a space times a rule, by name."""

_GAM, _PDA = "prefdelta.merging.methods.gam", "Preference Delta Aggregation, arXiv 2606.00357, section 4"

declare(
    "gam",
    summary="Align the singular bases to a reference by Procrustes, then average U, S and V separately.",
    paper=f"{_PDA}, equations 1-5.",
    module=_GAM,
    options=GamOptions,
)
declare(
    "gam-orthonormal",
    summary="GAM with the averaged bases made orthonormal again, which undoes most of its shrinkage.",
    paper=f"{_PDA}; re-orthonormalised as appendix C, assumption A1, describes.",
    module=_GAM,
    options=GamOptions,
)
declare(
    "gam-norm-matched",
    summary="GAM rescaled in every module to the norm of the plain average: its direction at the average's size.",
    paper=f"{_PDA}; the rescaling is a control for update norm, not part of the paper.",
    module=_GAM,
    options=GamOptions,
)
declare(
    "lego",
    summary="Cluster the rank-1 pieces of all updates and keep one mean piece for each cluster.",
    paper="LoRA-LEGO, arXiv 2409.16167.",
    module="prefdelta.merging.methods.lego",
    options=LegoOptions,
)

_SPECTRAL, _ISO = "prefdelta.merging.methods.spectral", "No Task Left Behind (isotropic merging), arXiv 2502.04959"

declare(
    "tsv-m",
    summary="Make the singular vectors of all updates orthogonal to one another, then add up.",
    paper="Task Singular Vectors (TSV-M), arXiv 2412.00081, algorithm 1.",
    module=_SPECTRAL,
    options=TsvOptions,
)
declare(
    "iso-c",
    summary="The weighted sum with all its singular values replaced by their mean.",
    paper=f"{_ISO}, Iso-C.",
    module=_SPECTRAL,
    options=IsoOptions,
)
declare(
    "iso-cts",
    summary="Iso-C with some directions taken from what each update has beside the sum.",
    paper=f"{_ISO}, Iso-CTS.",
    module=_SPECTRAL,
    options=IsoCtsOptions,
)

_TRUNCATION, _LEADING = "prefdelta.merging.methods.truncation", "LASER, arXiv 2312.13558; AdaRank, arXiv 2503.22178"

declare(
    "truncate",
    summary="Keep each update's leading singular directions, weighted sum.",
    paper=_LEADING,
    module=_TRUNCATION,
    options=TruncationOptions,
)
declare(
    "truncate-ties",
    summary="Keep each update's leading singular directions, then its largest entries; elect signs, sum the agreeing.",
    paper=f"{_LEADING}; {_TIES}",
    module=_TRUNCATION,
    options=TruncateTiesOptions,
)

PICO: dict[str, Method] = {
    inner: declare(
        f"pico-{inner}",
        summary=f"Tone down output directions that updates share, then {inner}, at the updates' mean norm.",
        paper=f"Pico (Crowded in B-Space), arXiv 2604.16826; {METHODS[inner].paper}",
        module="prefdelta.merging.methods.pico",
        options=METHODS[inner].options,
    )
    for inner in ("average", "ties", "tsv-m")
}
"""Pico, by the method that it comes before: the three of its paper."""

declare(
    "regmean",
    summary="Least squares to each adapter's outputs on a sample of its own inputs; needs activations.",
    paper="RegMean, arXiv 2212.09849.",
    module="prefdelta.merging.methods.regmean",
    options=RegmeanOptions,
)
declare(
    "robustmerge",
    summary="Prune each update's factors, rescale its directions for what they lost, average.",
    paper="RobustMerge, arXiv 2502.17159.",
    module="prefdelta.merging.methods.robustmerge",
    options=RobustOptions,
)

_SPHERICAL = "prefdelta.merging.methods.spherical"

declare(
    "slerp",
    summary="Great-circle interpolation between two updates.",
    paper="Shoemake 1985; mergekit's slerp, here on updates rather than on whole weights.",
    module=_SPHERICAL,
    adapters=(2, 2),
)
declare(
    "nuslerp",
    summary="Great-circle interpolation between two updates, as a whole or row by row.",
    paper="mergekit's nuslerp.",
    module=_SPHERICAL,
    options=NuslerpOptions,
    adapters=(2, 2),
)
declare(
    "multislerp",
    summary="The mean direction of the updates, at their mean length.",
    paper="mergekit's multislerp.",
    module=_SPHERICAL,
)
declare(
    "karcher",
    summary="The Karcher (Riemannian) mean of the updates' directions, at their mean length.",
    paper="Karcher 1977; mergekit's karcher.",
    module=_SPHERICAL,
    options=KarcherOptions,
)

_SUMS = "prefdelta.merging.methods.sums"

declare(
    "cat",
    summary="Weighted sum of the updates, exact: the factors side by side, at the sum of their ranks.",
    paper="PEFT's combination type cat; task arithmetic, arXiv 2212.04089.",
    module=_SUMS,
)
declare(
    "linear",
    summary="Weighted sum of the updates, exact, at the rank that it really has.",
    paper="Task arithmetic, arXiv 2212.04089.",
    module=_SUMS,
)
declare(
    "svd",
    summary="The best approximation of the weighted sum at a fixed rank.",
    paper="Eckart and Young 1936; PEFT's combination type svd.",
    module=_SUMS,
    options=SvdOptions,
)
declare(
    "projection",
    summary="The sum whose projection on every update is that update's whole length: data-free choice of scale.",
    paper="Least squares on the Gram matrix; see docs/methods/projection.md.",
    module=_SUMS,
    options=ProjectionOptions,
)
declare(
    "model-stock",
    summary="The average, shrunk by how much the updates disagree in direction.",
    paper="Model Stock, arXiv 2403.19522, equation 4.",
    module=_SUMS,
)
