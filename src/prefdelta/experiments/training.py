"""The units that train adapters: each alone, or several together."""

from __future__ import annotations

import shutil
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
    check_learns(rows, training)

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
        config=_config(config, seeds, student),
        inputs={**inputs, **student.inputs},
        externals=student.externals(),
        make=make,
        work=Work(
            steps=count_steps(rows, training),
            disk=lora_bytes(student.given, training.lora),
            load=(trained(student.given, training, rows, text),),
        ),
        resumable=True,
    )


def together_unit(
    name: str,
    student: Student,
    training: Training,
    *,
    seeds: Mapping[str, Seeds],
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    examples: Callable[[str, Inputs], Sequence[Example]],
    held_out: Callable[[str, Inputs], Sequence[Example]],
    rows: int,
    text: Text,
) -> Unit:
    """Pairs of several deltas -> a folder with the adapter of each, trained together.

    Args:
        name: where the artifact is.
        student: what is trained.
        training: the settings of each.
        seeds: delta -> its seeds.
        inputs: label -> artifact.
        config: what the examples depend on, apart from the inputs.
        examples: reads those of a delta from the inputs.
        held_out: reads its pairs that are not trained on.
        rows: the most examples of a delta that there can be.
        text: how long their responses may be.

    Raises:
        PrefdeltaError: the training cannot learn, see :func:`prefdelta.training.plan.check_learns`.
    """
    check_learns(rows, training)

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        from prefdelta.training import Delta, train_together

        context.release()
        reports = train_together(
            student.ref,
            [
                Delta(delta, examples(delta, inputs), own.order, own.init, held_out(delta, inputs))
                for delta, own in seeds.items()
            ],
            training,
            folder=work,
            cache=student.cache,
            progress=context.progress,
            reading=context.progress,
        )
        for delta, report in reports.items():
            context.tell(f"{name}, {delta}: {report.summary}")
            if report.warning:
                context.tell(f"{name}, {delta}: {report.warning}")

    return Unit(
        name,
        "together",
        config={**config, "seeds": {delta: asdict(own) for delta, own in seeds.items()}, "student": student.trained},
        inputs={**inputs, **student.inputs},
        externals=student.externals(),
        make=make,
        work=Work(
            steps=len(seeds) * count_steps(rows, training),
            disk=len(seeds) * lora_bytes(student.given, training.lora),
            load=(trained(student.given, training, rows, text),) * len(seeds),
        ),
        resumable=True,
    )


def one_of_together(
    name: str,
    student: Student,
    training: Training,
    *,
    delta: str,
    seeds: Seeds,
    together: str,
    config: Mapping[str, Any],
) -> Unit:
    """The adapter of one of the deltas of a :func:`together_unit`, as an artifact like that of :func:`adapter_unit`.

    Its key tells that it was trained together, and by the input with what: its bytes depend on it, in the last digits.
    """

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        for file in sorted((inputs["together"].path / delta).iterdir()):
            shutil.copyfile(file, work / file.name)

    return Unit(
        name,
        "adapters",
        config={**_config(config, seeds, student), "delta": delta},
        inputs={"together": together, **student.inputs},
        externals=student.externals(),
        make=make,
        work=Work(disk=lora_bytes(student.given, training.lora)),
    )


def _config(config: Mapping[str, Any], seeds: Seeds, student: Student) -> dict[str, Any]:
    return {**config, "seeds": asdict(seeds), "student": student.trained}
