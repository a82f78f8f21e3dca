"""When to use which merge method: a short way through the long list, and a sentence for each method."""

from __future__ import annotations

CHOOSER = (
    ("average", "First: exact, and nothing to choose but λ, which matters more than the method."),
    (
        "truncate-ties",
        "Next, with λ chosen the same way: each adapter's strongest directions, then TIES' vote on signs.",
    ),
    ("truncate", "The same without the vote: the result keeps a low rank, so that nothing is cut to store it."),
    ("ties", "The usual baseline: each adapter's largest entries, then the vote on signs."),
    ("gam", "To follow the PDA paper. Its update is short, so give it a larger λ."),
    ("tara-b", "With held-out pairs: `prefdelta learn` learns how much of each direction to take."),
)
"""What to try, in order."""

MEASURED = {"truncate-ties": 82.1, "truncate": 81.0, "ties": 78.7, "average": 75.5, "gam": 58.6}
"""Test score in percent, mean of eight merges held back until all methods were fixed; λ chosen without labels.

Embedded models; ``benchmarks/results/sharpening.md`` has every merge.
"""

_RULES = {
    "ties": "Updates of one base that pull some weights in opposite directions.",
    "magnitude-prune": "To see what the vote on signs adds: this is TIES without it.",
    "dare": "Many updates that would get into one another's way.",
    "dare-ties": "Many updates that would get into one another's way and disagree in sign.",
    "breadcrumbs": "Updates with a few extreme entries that would decide the merge.",
    "breadcrumbs-ties": "As breadcrumbs, where the updates also disagree in sign.",
    "della": "As dare, with less noise on the entries that matter.",
    "della-linear": "As della, without the vote on signs.",
    "sce": "Updates of unlike sources of one base, whose differences carry what each is good at.",
}

_SPACES = {
    "knots": "In one shared output basis: the result stays of low rank, with nothing cut off.",
    "core": "As knots-, at a cost that hardly grows with the width of the module.",
    "ctm": "In shared subspaces of a rank fixed beforehand: what is merged is what can be stored.",
    "pico": "Adapters of different domains whose outputs share dominant directions.",
}

_WHEN = {
    "average": "First, always: exact, no choice but λ, and every other merge is reported against it.",
    "cat": "The sum is wanted as it is, and a rank of Σ rᵢ may be stored and served.",
    "linear": "Task arithmetic, stored at the true rank of the sum.",
    "svd": "The rank is limited: no other update of that rank is nearer to the sum.",
    "projection": "λ cannot be chosen on validation data. Orthogonal updates give their sum, equal ones their average.",
    "model-stock": "Adapters of one task, trained with different seeds or settings.",
    "slerp": "Two adapters and no data to choose λ by: the norm is kept.",
    "nuslerp": "Two adapters that agree in some rows or columns and oppose each other in others.",
    "multislerp": "To keep a typical norm without choosing λ, when one large adapter should not decide alone.",
    "karcher": "As multislerp, where an outlier should pull in proportion to its angle.",
    "gam": "To reproduce PDA-GAM. The result stays at rank r however many adapters there are; give it a larger λ.",
    "gam-orthonormal": "The variant of gam in the PDA paper's appendix C.",
    "gam-norm-matched": "gam at the plain average's norm, to compare directions at one λ.",
    "truncate": "Deltas of short trainings, and a calibrated λ: what one learned is in few directions.",
    "truncate-ties": "As truncate, where the deltas also disagree in sign.",
    "tsv-m": "Adapters of different tasks whose directions overlap partly.",
    "iso-c": "Many tasks whose sum is dominated by a few shared directions.",
    "iso-cts": "As iso-c, for many different tasks: room is kept for what each has of its own.",
    "lego": "Many adapters that learnt partly the same things, and a small rank to store them in.",
    "robustmerge": "A cheap element-wise baseline that stays factored.",
    "regmean": "A few hundred tokens of each adapter's data are at hand.",
    **_RULES,
}


def when_to_use(name: str) -> str | None:
    """When to use the method ``name``, in one or two sentences; ``None`` for a method that another package adds."""
    if name in _WHEN:
        return _WHEN[name]
    space, _, inner = name.partition("-")
    if space in _SPACES and inner in _WHEN:
        return f"{_SPACES[space]} {inner}: {_WHEN[inner]}"
    return None
