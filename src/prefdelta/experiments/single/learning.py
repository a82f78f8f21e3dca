"""The unit that merges adapters by learned coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.single.settings import model_from, section
from prefdelta.experiments.single.unit import ORIGIN, single_unit
from prefdelta.experiments.unit import Unit
from prefdelta.merging.learned.methods import LEARNED, get_learned
from prefdelta.recipe import configure, settings_mapping
from prefdelta.recipe.learning import LanguageLearning


def learn_unit(
    adapters: Sequence[Path],
    base: str,
    method: str,
    rows: Sequence[Path],
    prompts: Sequence[Path],
    seed: int,
    settings: Sequence[str],
) -> Unit:
    """Adapters become one, by coefficients learned on held-out pairs, answers or prompts.

    Method and options are checked first, before torch is imported.

    Raises:
        PrefdeltaError: there is no such method or option, or a setting or the files do not fit.
    """
    chosen, raw = get_learned(method), settings_mapping(settings)
    options = section(method, raw)
    chosen.parse(options, len(adapters))
    if others := sorted(LEARNED.keys() & raw.keys()):
        raise PrefdeltaError(f"{ORIGIN} {others[0]}: options are given for {others[0]}, but the method is {method}.")
    ref = model_from("base", base, raw)
    learning = configure(LanguageLearning, raw, origin=ORIGIN)
    from prefdelta.merging.learned.generative import check_inputs, learn_language_merge

    check_inputs(len(adapters), rows, prompts, learning)
    files = {"adapter": adapters, "rows": rows, "prompts": prompts}
    return single_unit(
        "learned merges",
        config={
            "base": ref,
            "method": method,
            "options": options,
            "learning": learning,
            "seed": seed,
            "names": {label: [path.name for path in paths] for label, paths in files.items()},
        },
        files={f"{label} {index}": str(path) for label, paths in files.items() for index, path in enumerate(paths)},
        models={"base": ref},
        build=lambda work, context: learn_language_merge(
            context.model(ref),
            adapters,
            work,
            method=method,
            options=options,
            settings=learning,
            rows=rows,
            prompts=prompts,
            seed=seed,
            progress=context.progress,
        ),
    )
