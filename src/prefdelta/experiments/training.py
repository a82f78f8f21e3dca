"""The unit that trains an adapter, and what others that train have in common with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefdelta.core.records import Example
from prefdelta.experiments.estimate import lora_bytes
from prefdelta.experiments.load import Text, trained
from prefdelta.experiments.student import Student
from prefdelta.experiments.unit import Inputs, RunContext, Unit, Work
from prefdelta.recipe import Training
from prefdelta.training.plan import check_learns, count_steps


@dataclass(frozen=True)
class Seeds:
    """The seeds of a training: of the order of its rows, and of LoRA's ``A``."""

    order: int
    init: int


def adapter_unit(
    name: str,
    student: Student,
    training: Training,
    *,
    seeds: Seeds,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    examples: Callable[[Inputs], Sequence[Example]],
    rows: int,
    text: Text,
    held_out: Callable[[Inputs], Sequence[Example]] = lambda _: (),
) -> Unit:
    """Pairs, triples or demonstrations -> a LoRA adapter of the student.

    Args:
        name: where the artifact is.
        student: what is trained.
        training: the settings.
        seeds: of the training.
        inputs: label -> artifact; ``adapter``, if there is one, is trained further.
        config: what the examples depend on, apart from the inputs.
        examples: reads them from the inputs.
        rows: the most examples that there can be.
        text: how long their responses may be.
        held_out: reads pairs that are not trained on from the inputs, for the adapter's own scale.

    Raises:
        PrefdeltaError: the training cannot learn, see :func:`prefdelta.training.plan.check_learns`.
    """
    work = training_work(student, training, rows, text)

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        from prefdelta.training import train_delta  # here, as a plan needs none of it

        context.release()
        report = train_delta(
            student.ref,
            examples(inputs),
            training,
            seed=seeds.order,
            init_seed=seeds.init,
            folder=work,
            adapter=inputs["adapter"].path if "adapter" in inputs else None,
            held_out=held_out(inputs),
            cache=student.cache,
            progress=context.progress,
            reading=context.progress,
        )
        if report.warning:
            context.tell(f"{name}: {report.warning}")

    return Unit(
        name,
        "adapters",
        config=seeded(config, seeds, student),
        inputs={**inputs, **student.inputs},
        externals=student.externals(),
        make=make,
        work=work,
        resumable=True,
    )


def training_work(student: Student, training: Training, rows: int, text: Text, adapters: int = 1) -> Work:
    """The size of the training of some adapters, each on at most ``rows`` rows.

    Raises:
        PrefdeltaError: the training cannot learn, see :func:`prefdelta.training.plan.check_learns`.
    """
    check_learns(rows, training)
    return Work(
        steps=adapters * count_steps(rows, training),
        disk=adapters * lora_bytes(student.given, training.lora),
        load=(trained(student.given, training, rows, text),) * adapters,
    )


def seeded(config: Mapping[str, Any], seeds: Seeds, student: Student) -> dict[str, Any]:
    """What an adapter depends on, beside its inputs."""
    return {**config, "seeds": asdict(seeds), "student": student.trained}
