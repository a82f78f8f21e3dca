"""The unit that guards the choice: how far the chosen merge moves the student on the student's own answers."""

from __future__ import annotations

from pathlib import Path

from prefdelta.core.files import write_json
from prefdelta.core.records import Item, read_rows
from prefdelta.core.store import Artifact
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.selection import selected
from prefdelta.experiments.aggregation.validation import adapter_folder
from prefdelta.experiments.answers import PROMPTS
from prefdelta.experiments.identity import corpus_externals
from prefdelta.experiments.load import Passed, Sampled, text_of
from prefdelta.experiments.unit import Inputs, RunContext, Unit, Work
from prefdelta.merging.tuning.guard import GUARDED, divergence, own_rows

GUARD = "guard.json"


def guard(domain: DomainContext) -> Unit:
    """KL of the chosen merge from the student, by training seed, in nats a token -> ``guard.json``."""
    settings, seeds = domain.settings, domain.recipe.seeds
    sampling = domain.validation_sampling

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        method, scale = selected(inputs["selection"]).merge
        student = context.model(domain.student.ref)
        items = read_rows(inputs["prompts"].path / PROMPTS, Item)
        rows = own_rows(student, items, sampling, context.environment(settings.search), settings.prompts.seed)
        folders = {seed: adapter_folder(inputs[f"{seed}/{method}"]) for seed in seeds}
        found = {str(seed): divergence(student, rows, folder, scale) for seed, folder in folders.items()}
        write_json(work / GUARD, {"kl": found})

    answers, batch = min(GUARDED, settings.prompts.count), sampling.batch_size
    text = text_of(settings.prompts, sampling, settings.search)
    return Unit(
        domain.path("guard"),
        "guard",
        config={"sampling": sampling, "search": settings.search, "answers": answers},
        inputs={
            "prompts": domain.path("prompts"),
            "selection": domain.path("selection"),
            **{f"{seed}/{name}": domain.path(f"merges/{seed}/{name}") for seed in seeds for name in domain.methods},
            **domain.student.inputs,
        },
        externals={**domain.student.externals(), **corpus_externals(settings.search)},
        make=make,
        work=Work(
            samples=answers,
            load=(
                Sampled(domain.student.given.model_copy(update={"engine": "transformers"}), answers, text, batch),
                Passed(domain.student.given, answers * (1 + len(seeds)), text, None, 1),
            ),
        ),
    )


def guarded(artifact: Artifact) -> float:
    """The mean over training seeds of what :func:`guard` measured."""
    found: dict[str, float] = artifact.json(GUARD)["kl"]
    return sum(found.values()) / len(found)
