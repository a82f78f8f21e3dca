"""The recipe of ``prefdelta real``: with published answers where there are any, else with those of damaged siblings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.real.siblings import SIBLINGS, prompts_folder, sibling_folder
from prefdelta.recipe import Benchmark, Domain, Recipe, load_recipe

QUICK = 0.06
"""The share that takes minutes."""

QUICK_LENGTH = 96
"""The tokens of a prompt and a response that such a run looks at."""

QUICK_SETTINGS = (
    "domains.chat.sampling.max_new_tokens=48",
    f"domains.chat.training.max_length={QUICK_LENGTH}",
    f"domains.chat.filters.identical_within={QUICK_LENGTH}",
    "merge.scales=[0.5,1.0,2.0]",
    "watch.sampling.max_new_tokens=64",
)
"""What is also changed for a run of minutes."""

_ARC = "arc-easy"  # the watched task that needs data of its own


def real_recipe(
    student: Path,
    answers: Path | None,
    arc: Path | None,
    share: float = 1.0,
    settings: Sequence[str] = (),
    length: int | None = None,
) -> Recipe:
    """The recipe, with everything that it names in its place.

    Args:
        student: the model's folder.
        answers: folder with ``MODEL/model_outputs.json`` of AlpacaEval, as its repository has them in ``results``.
            Without it the student's siblings answer, which are made now.
        arc: folder with ARC-Easy's ``test.json`` as LLM-Adapters has it; without it that task is not watched.
        share: of the prompts, pairs and items that the recipe asks for.
        settings: changes to the recipe, each ``dotted.key=value``.
        length: tokens of a held-out prompt and response that are looked at; the recipe's if left out.

    Raises:
        PrefdeltaError: the share is not in (0, 1], or a setting is wrong.
    """
    if not 0 < share <= 1:
        raise PrefdeltaError(f"the share must be above 0 and at most 1, not {share}.")
    folders = {"student": student, "arc": arc or Path()}
    if answers is not None:
        folders["answers"] = answers
    else:
        folders |= {"prompts": prompts_folder(student), **{name: sibling_folder(student, name) for name in SIBLINGS}}
    file = Path(__file__).with_name("smollm2.yaml" if answers is None else "smollm2-published.yaml")
    recipe = load_recipe(file, settings, folders)
    assert isinstance(recipe, Recipe)
    return _reduced(recipe, share, length, keep=lambda benchmark: arc is not None or benchmark.name != _ARC)


def _reduced(recipe: Recipe, share: float, length: int | None, keep: Callable[[Benchmark], bool]) -> Recipe:
    """The recipe with a share of its prompts, held-out prompts and items, and with those watched tasks alone."""

    def few(count: int) -> int:
        return min(count, max(2, round(share * count)))

    def smaller(benchmark: Benchmark) -> Benchmark:
        changed: dict[str, Any] = {"validation": few(benchmark.validation), "test": few(benchmark.test)}
        if length is not None and benchmark.pairs is not None:
            changed["pairs"] = benchmark.pairs.model_copy(update={"max_length": length})
        return benchmark.model_copy(update=changed)

    def fewer(domain: Domain) -> Domain:
        benchmarks = tuple(map(smaller, domain.benchmarks))
        asked = max(benchmark.validation + benchmark.test for benchmark in benchmarks)  # no fewer are held out
        counts = {
            "prompts": domain.prompts.model_copy(update={"count": few(domain.prompts.count)}),
            "held_out": max(few(domain.held_out), asked),
        }
        return domain.model_copy(update={**counts, "benchmarks": benchmarks})

    domains = {name: fewer(domain) for name, domain in recipe.domains.items()}
    watch = recipe.watch
    if watch is not None:
        watch = watch.model_copy(update={"benchmarks": tuple(smaller(each) for each in watch.benchmarks if keep(each))})
    return recipe.model_copy(update={"domains": domains, "watch": watch})
