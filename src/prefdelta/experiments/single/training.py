"""The unit that trains an adapter, and its result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from prefdelta.adapters.trained import TRAINING
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair, digest, read_examples, read_some
from prefdelta.experiments.checking import checked
from prefdelta.experiments.evaluation import Exam, Subject, evaluate
from prefdelta.experiments.identity import seed_from
from prefdelta.experiments.single.evaluation import pairs_benchmark, read_score, write_results
from prefdelta.experiments.single.settings import model_from
from prefdelta.experiments.single.unit import ORIGIN, assists, single_unit
from prefdelta.experiments.unit import RunContext, Unit
from prefdelta.recipe import ModelRef, Sampling, Training, configure, settings_mapping
from prefdelta.training import train_delta
from prefdelta.training.launch import check_launch
from prefdelta.training.train import TrainingReport

HELD_OUT = "held_out"
"""The folder in which the records of held-out pairs are."""


def train_unit(
    examples: Path, student: str, adapter: Path | None, held_out: Path | None, seed: int, settings: Sequence[str]
) -> Unit:
    """A file of examples becomes an adapter, a fresh one or ``adapter`` trained further.

    With pairs that are ``held_out``, what the new adapter prefers among them is written beside it.
    """
    check_launch()
    raw = settings_mapping(settings)
    ref = model_from("student", student, raw)
    training = checked(configure(Training, raw, origin=ORIGIN))
    if training.together:
        raise PrefdeltaError(f"{ORIGIN} together: one adapter is trained here; it is for the deltas of a recipe.")

    def build(work: Path, context: RunContext) -> None:
        report = train_delta(
            ref,
            read_examples(examples),
            training,
            seed=seed_from(seed, "order"),
            init_seed=seed_from(seed, "init"),
            folder=work,
            adapter=adapter,
            held_out=() if held_out is None else read_some(held_out, Pair),
            progress=context.progress,
            reading=context.progress,
        )
        if report.warning:
            context.tell(report.warning)
        if held_out is not None and not assists():
            _measure(work, context, ref, held_out, examples)

    return single_unit(
        "adapters",
        config={
            "student": ref,
            "training": training.settled,
            "seed": seed,
        },
        files={
            "examples": str(examples),
            "adapter": str(adapter) if adapter else None,
            "held out": str(held_out) if held_out else None,
        },
        models={"student": ref},
        build=build,
    )


def _measure(work: Path, context: RunContext, ref: ModelRef, held_out: Path, examples: Path) -> None:
    """What the adapter in ``work`` prefers among held-out pairs -> records and results in a folder of their own."""
    trained = {digest(row.prompt) for row in read_examples(examples)}
    pairs = read_some(held_out, Pair)
    if seen := sum(digest(pair.prompt) in trained for pair in pairs):
        context.tell(
            f"{seen} of {len(pairs)} held-out pairs answer prompts that were trained on; what the adapter prefers "
            "there says little of other prompts."
        )
    folder = work / HELD_OUT
    exam = Exam([pairs_benchmark(str(held_out))], Sampling(), None, "test", 0)
    evaluate(folder, context, Subject(ref, work), exam)
    write_results(folder, model=ref.path, adapter=None, scale=1.0, seed=0)


def read_training(folder: Path) -> str:
    """What a training came to, in one line; and another of what it prefers among held-out pairs, if there are any."""
    told = TrainingReport(**json.loads((folder / TRAINING).read_text(encoding="utf-8"))).summary
    return f"{told}\nheld out: {read_score(folder / HELD_OUT)}" if (folder / HELD_OUT).is_dir() else told
