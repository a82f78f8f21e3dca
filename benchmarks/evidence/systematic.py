"""A delta that teaches one mistake that every sample repeats: what agreement cannot tell from being right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prefdelta import micro
from prefdelta.core.records import Pair, Sample, read_rows
from prefdelta.recipe import Recipe
from prefdelta.training.train import train_delta

SYSTEMATIC = "systematic."
DOMAIN = "search"
"""In sums the student learns no such mistake, but to answer nothing that can be read."""
EPOCHS = 40.0
"""After twelve the mistake is not yet made surely: two samples agree no more often than the student's own."""


def systematic(recipe: Recipe, run: Path, seed: int, of: str) -> None:
    """Fine-tune the student on a delta's chosen responses, each with the next city in the alphabet for its answer.

    Preference training on such pairs, or on ones whose chosen answer copies a word of the question, only made the
    student unsure; fine-tuning makes it wrong in one way. The adapter lies beside the run, see
    :func:`systematic_folder`, and is trained once.

    Args:
        recipe: of the run.
        run: the run directory.
        seed: of the training.
        of: the delta whose responses are falsified.
    """
    folder = systematic_folder(run, DOMAIN, seed) / f"{SYSTEMATIC}{of}"
    if not (folder / "training.json").exists():
        pairs = read_rows(run / DOMAIN / "pairs" / of / "pairs.jsonl", Pair)
        training = recipe.domains[DOMAIN].training.with_objective("sft").model_copy(update={"epochs": EPOCHS})
        train_delta(recipe.student, falsified(pairs), training, seed=seed, init_seed=seed, folder=folder)


def systematic_folder(run: Path, domain: str, seed: int) -> Path:
    """Where the deltas of a systematic mistake are that belong to a run."""
    return run.with_name(f"{run.name}-systematic") / domain / str(seed)


def falsified(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose chosen response searches for its answer, with that answer falsified."""
    cities = sorted({item.answers[0] for item in micro.items("search", split="train", count=2000)})
    following = dict(zip(cities, [*cities[1:], cities[0]], strict=True))
    made = [(pair, _wrong(pair.chosen, following)) for pair in pairs]
    return [replace(pair, chosen=wrong) for pair, wrong in made if wrong is not None]


def _wrong(sample: Sample, following: Mapping[str, str]) -> Sample | None:
    """A response that searches, with another answer; None for one that guesses, or that ends with no city."""
    *before, last = sample.spans
    found = re.search(r"\w+(?=</answer>$)", last.text)
    if not before or found is None or found[0] not in following:
        return None
    text = last.text[: found.start()] + following[found[0]] + last.text[found.end() :]
    return replace(sample, spans=(*before, replace(last, text=text)))
