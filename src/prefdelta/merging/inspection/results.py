"""The numbers of an inspection; ``Inspection.model_dump_json`` is its JSON form."""

from __future__ import annotations

from prefdelta.core.config import Frozen


class InspectedAdapter(Frozen):
    """One adapter as a whole.

    ``norm`` is ‖ΔW‖_F over all modules. ``effective_rank`` is the mean over its modules of exp(H), with H the entropy
    of the shares σ² / Σσ²: how many directions carry the update. ``coverage`` is the share of all inspected modules
    in which its update is not zero; ``empty`` counts modules that it adapts with a zero update. ``own_scale`` is the λ
    that its training found for the adapter by itself (:class:`prefdelta.adapters.trained.OwnScale`), if it did.
    """

    name: str
    fingerprint: str
    base_model: str | None
    modules: int
    ranks: tuple[int, ...]
    norm: float
    effective_rank: float | None
    coverage: float
    empty: int
    own_scale: float | None


class InspectedModule(Frozen):
    """One module: a number per adapter, ``None`` where it does not adapt the module."""

    module: str
    shape: tuple[int, int]
    norms: tuple[float | None, ...]
    effective_ranks: tuple[float | None, ...]
    ranks: tuple[int | None, ...]


class SignConflict(Frozen):
    """How often the entries of two updates point opposite ways, on a sample of entries.

    ``share`` of the entries that are nonzero in both differ in sign. Two Gaussian updates of cosine c differ in
    ``expected`` = arccos(c) / π of their entries. ``excess`` = share - expected: above 0 the updates disagree more
    often than their angle says, in small entries; below 0 the large entries disagree.
    """

    share: float
    expected: float
    excess: float
    entries: int


class InspectedPair(Frozen):
    """Two adapters in one module, or in all that both adapt.

    ``cosine`` is that of the updates and ``norm_ratio`` = ‖second‖ / ‖first‖. ``overlap_out`` and ``overlap_in`` are
    the mean squared cosines of the principal angles between their output (U) and input (V) subspaces, of which
    ``chance_out`` and ``chance_in`` are expected of unrelated ones. ``angles_out`` and ``angles_in`` are the smallest
    and the largest principal angle in degrees. Over all modules these are means.
    """

    first: int
    second: int
    cosine: float
    norm_ratio: float
    overlap_out: float
    overlap_in: float
    chance_out: float
    chance_in: float
    angles_out: tuple[float, float]
    angles_in: tuple[float, float]
    sign: SignConflict | None


class ModulePairs(Frozen):
    """Every pair of adapters that both change a module."""

    module: str
    pairs: tuple[InspectedPair, ...]


class MethodPreview(Frozen):
    """What a merge method would make of the adapters, with its defaults, against their plain average.

    ``norm_ratio`` and ``cosine`` are of the whole update; ``modules`` gives (norm ratio, cosine) of each module.
    ``refusal`` says why a method cannot merge these adapters.
    """

    method: str
    norm_ratio: float | None
    cosine: float | None
    modules: tuple[tuple[float | None, float | None], ...]
    refusal: str | None = None


class Inspection(Frozen):
    """Adapters, modules, pairs, previews of methods, and warnings."""

    version: str
    adapters: tuple[InspectedAdapter, ...]
    modules: tuple[InspectedModule, ...]
    pairs: tuple[InspectedPair, ...]
    module_pairs: tuple[ModulePairs, ...]
    methods: tuple[MethodPreview, ...]
    sampled_entries: int
    warnings: tuple[str, ...]
