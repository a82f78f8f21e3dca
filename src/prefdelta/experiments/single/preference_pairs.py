"""The unit that turns two files of answers into preference pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.checking import checked
from prefdelta.experiments.identity import file_externals, portable
from prefdelta.experiments.preference_pairs import COUNTS, PairFiles, write_pairs
from prefdelta.experiments.single.settings import load_prompts, prompts_from, section
from prefdelta.experiments.single.unit import ORIGIN, single_unit
from prefdelta.experiments.unit import Unit
from prefdelta.pairs.card import dropped_reasons
from prefdelta.recipe import Filters, ModelRef, Pairing, configure, settings_mapping


def pair_unit(prompts: str, files: PairFiles, student: str | None, settings: Sequence[str]) -> Unit:
    """Two files of answers, and of scores where the rule needs them, become pairs.

    Raises:
        PrefdeltaError: a setting is unknown or wrong, or scores are given that the rule does not look at.
    """
    raw = settings_mapping(settings)
    questions = prompts_from(prompts, raw)
    files = replace(
        files,
        chosen_system=section("chosen", raw).get("system"),
        rejected_system=section("rejected", raw).get("system"),
    )
    own = {key: raw.pop(key) for key in list(raw) if key in Pairing.model_fields}
    pairing = checked(configure(Pairing, own, origin=ORIGIN))
    if not pairing.needs_scores and (files.chosen_scores or files.rejected_scores):
        raise PrefdeltaError(
            f"the pairing rule {pairing.rule.name!r} looks at no scores; leave them out, or set rule=score."
        )
    filters = configure(Filters, raw, origin=ORIGIN)
    ref = ModelRef(path=student) if student else None
    named = {name: path for name, path in vars(files).items() if isinstance(path, Path)}
    systems = {name: system for name, system in vars(files).items() if isinstance(system, str)}
    about = {
        "prompts": Path(prompts).name,
        **{name: path.name for name, path in named.items()},
        **systems,
        "pairing": pairing,
        "filters": filters,
    }
    return single_unit(
        "pairs",
        config={"prompts": questions, "pairing": pairing, "filters": filters, "student": ref, **systems},
        files={name: str(path) for name, path in named.items()},
        models={"student": ref} if ref else {},
        externals=file_externals(prompts, "prompts"),
        reads=[prompts],
        build=lambda work, context: write_pairs(
            work,
            load_prompts(questions),
            files,
            pairing,
            filters,
            portable(about),
            questions=questions,
            student=ref,
        ),
    )


def read_paired(folder: Path) -> str:
    """What became of the prompts, in one line."""
    counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
    reasons = dropped_reasons(counts["dropped"])
    left_out = f"; left out: {', '.join(reasons)}" if reasons else ""
    return f"{counts['pairs']} pairs of {counts['items']} prompts{left_out}. {folder / 'README.md'} describes them."
