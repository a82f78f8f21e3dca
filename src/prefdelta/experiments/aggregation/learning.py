"""The units that train adapters and merge them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefdelta.core.files import write_json
from prefdelta.core.records import Pair, read_rows
from prefdelta.core.store import Artifact
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.selection import selected
from prefdelta.experiments.aggregation.validation import Validated, merge_report
from prefdelta.experiments.estimate import lora_bytes
from prefdelta.experiments.identity import seed_from
from prefdelta.experiments.preference_pairs import HELD_OUT, PAIRS
from prefdelta.experiments.training import Seeds, adapter_unit, seeded, training_work
from prefdelta.experiments.unit import Inputs, RunContext, Unit, Work
from prefdelta.merging.engine import merge
from prefdelta.merging.geometry import compare
from prefdelta.merging.registry import get_method
from prefdelta.pairs.pairing import reverse_labels, shuffle_labels
from prefdelta.recipe import Baseline, By, Control, Named, Training
from prefdelta.training.data import joint_pairs

GEOMETRY = "geometry.json"


def adapter(domain: DomainContext, seed: int, delta: str, control: Control | None) -> Unit:
    """A delta's adapter, trained on its pairs or on what a control makes of them."""
    training, seeds = _controlled_training(domain, control), _seeds(domain, seed, delta)
    name = domain.path(f"adapters/{seed}/{delta if control is None else f'{control}.{delta}'}")
    config = {"training": training.settled, "control": control}
    if training.together:
        return _one_of_together(domain, name, training, delta, seeds, _together(domain, seed, control), config)
    return adapter_unit(
        name,
        domain.student,
        training,
        seeds=seeds,
        inputs={"pairs": domain.path(f"pairs/{delta}")},
        config=config,
        examples=lambda inputs: _controlled(control, inputs["pairs"], seeds.order),
        held_out=lambda inputs: _held_out(control, inputs["pairs"]),
        rows=domain.pair_count,
        text=domain.text,
    )


def together(domain: DomainContext, seed: int, control: Control | None) -> Unit:
    """A folder with the adapter of each delta, trained together."""
    training, student = _controlled_training(domain, control), domain.student
    seeds = {delta: _seeds(domain, seed, delta) for delta in domain.deltas}
    name = _together(domain, seed, control)

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        from prefdelta.training import Delta, train_together  # here, as a plan needs none of it

        context.release()
        deltas = []
        for delta, own in seeds.items():
            pairs = inputs[f"pairs of {delta}"]
            examples, held_out = _controlled(control, pairs, own.order), _held_out(control, pairs)
            deltas.append(Delta(delta, examples, own.order, own.init, held_out))
        reports = train_together(
            student.ref,
            deltas,
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
        config={
            "training": training.settled,
            "control": control,
            "seeds": {delta: asdict(own) for delta, own in seeds.items()},
            "student": student.trained,
        },
        inputs={**_pair_sets(domain), **student.inputs},
        externals=student.externals(),
        make=make,
        work=training_work(student, training, domain.pair_count, domain.text, len(seeds)),
        resumable=True,
    )


def _one_of_together(
    domain: DomainContext,
    name: str,
    training: Training,
    delta: str,
    seeds: Seeds,
    together: str,
    config: Mapping[str, Any],
) -> Unit:
    """A delta's adapter of :func:`together`, as an artifact like one that was trained alone.

    Its key tells that it was trained together, and by the input with what: its bytes depend on it, in the last digits.
    """

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        for file in sorted((inputs["together"].path / delta).iterdir()):
            shutil.copyfile(file, work / file.name)

    return Unit(
        name,
        "adapters",
        config={**seeded(config, seeds, domain.student), "delta": delta},
        inputs={"together": together, **domain.student.inputs},
        externals=domain.student.externals(),
        make=make,
        work=Work(disk=lora_bytes(domain.student.given, training.lora)),
    )


def _pair_sets(domain: DomainContext) -> dict[str, str]:
    """The pairs of all deltas, as inputs."""
    return {f"pairs of {delta}": domain.path(f"pairs/{delta}") for delta in domain.deltas}


def _together(domain: DomainContext, seed: int, control: Control | None) -> str:
    return domain.path(f"together/{seed}/{control or 'deltas'}")


def _controlled_training(domain: DomainContext, control: Control | None) -> Training:
    training = domain.settings.training
    return training.with_objective("sft") if control == "sft" else training


def _seeds(domain: DomainContext, seed: int, delta: str) -> Seeds:
    """A control begins at the same A as its delta, and sees the rows in the same order."""
    shared = domain.settings.training.lora.shared_init
    return Seeds(seed_from(seed, delta), seed_from(seed, "init" if shared else delta))


def _controlled(control: Control | None, artifact: Artifact, seed: int) -> Sequence[Pair]:
    """The pairs of a delta, as a control has them: it may change what they say."""
    pairs = read_rows(artifact.path / PAIRS, Pair)
    if control == "shuffled":
        return shuffle_labels(pairs, seed)
    if control == "reversed":
        return reverse_labels(pairs)
    return pairs


def _held_out(control: Control | None, artifact: Artifact) -> Sequence[Pair]:
    """The pairs of a delta that are not trained on, if the recipe holds any out; a control is not merged by them."""
    file = artifact.path / HELD_OUT
    return read_rows(file, Pair) if control is None and file.is_file() else ()


def baseline(domain: DomainContext, seed: int, kind: Baseline) -> Iterator[Unit]:
    """Joint: one adapter. Sequential: the first delta's adapter, trained further on one pair set after another."""
    training = domain.settings.training.model_copy(update={"together": False})
    config = {"training": training.settled}
    if kind == "joint":
        yield adapter_unit(
            domain.path(f"adapters/{seed}/{kind}"),
            domain.student,
            training,
            seeds=_seeds(domain, seed, kind),
            inputs=_pair_sets(domain),
            config={**config, "joint": domain.deltas},
            examples=lambda inputs: joint_pairs(
                {delta: read_rows(inputs[f"pairs of {delta}"].path / PAIRS, Pair) for delta in domain.deltas}
            ),
            rows=len(domain.deltas) * domain.pair_count,
            text=domain.text,
        )
        return
    last = domain.deltas[0]
    for delta in domain.deltas[1:]:
        yield adapter_unit(
            domain.path(f"adapters/{seed}/{kind}.{delta}"),
            domain.student,
            training,
            # The seed of A is not used: A is that of the adapter.
            seeds=Seeds(seed_from(seed, kind, delta), _seeds(domain, seed, kind).init),
            inputs={
                "pairs": domain.path(f"pairs/{delta}"),
                "adapter": domain.path(f"adapters/{seed}/{last}"),
            },
            config={**config, "further": True},
            examples=lambda inputs: read_rows(inputs["pairs"].path / PAIRS, Pair),
            rows=domain.pair_count,
            text=domain.text,
        )
        last = f"{kind}.{delta}"


def baseline_path(domain: DomainContext, seed: int, baseline: Baseline) -> str:
    """Where the adapter of a baseline is."""
    if baseline == "joint":
        return f"adapters/{seed}/{baseline}"
    *earlier, last = domain.deltas
    return f"adapters/{seed}/{f'{baseline}.{last}' if earlier else last}"


def merged(domain: DomainContext, seed: int, name: str, method: Named, adapters: list[str]) -> Unit:
    """Adapters of one training seed, merged by one method at λ = 1."""
    inputs = {adapter: domain.path(f"adapters/{seed}/{adapter}") for adapter in adapters}
    judged = {
        f"validation of {delta}": domain.path(f"validation/{delta}") for delta in adapters if _chooses_reference(method)
    }

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        options = merge_options(inputs, method, adapters, seed, domain.by)
        folders = [inputs[name].path for name in adapters]
        merge(folders, work / "adapter", method=method.name, options=options, compare=True)

    one = lora_bytes(domain.recipe.student, domain.settings.training.lora)
    return Unit(
        domain.path(f"merges/{seed}/{name}"),
        "merges",
        config={"method": method.name, "options": method.options, "adapters": adapters},
        inputs={**inputs, **judged},
        make=make,
        work=Work(disk=one * len(adapters)),  # ranks add up at most
    )


def _chooses_reference(method: Named) -> bool:
    """Whether validation chooses the adapter that a method aligns to, as in PDA, footnote 2: the recipe does not."""
    return "reference" in get_method(method.name).options.model_fields and "reference" not in method.options


def merge_options(inputs: Inputs, method: Named, adapters: Sequence[str], seed: int, by: By) -> dict[str, Any]:
    """A merge's options; ``inputs`` holds each adapter's validation as ``validation of NAME``.

    GAM aligns to the delta that does best at λ = 1, by what the merges are chosen by, if the recipe does not say to
    which.
    """
    if not _chooses_reference(method):
        return method.options
    scores = [Validated.read(inputs[f"validation of {name}"]).scores(by)[1.0][seed] for name in adapters]
    return {**method.options, "reference": scores.index(max(scores))}


def final_merge(work: Path, inputs: Inputs, seeds: Sequence[int], adapters: Sequence[str]) -> None:
    """The adapter to use: the method and λ that were chosen, from the seed that did best by the same measure.

    Args:
        work: the working folder.
        inputs: ``selection``; ``SEED/DELTA`` -> each adapter; ``SEED/METHOD`` -> each merge of the chosen method.
        seeds: the training seeds, in the recipe's order.
        adapters: the deltas, in the recipe's order.
    """
    chosen = selected(inputs["selection"])
    method, scale = chosen.merge
    scores = chosen.by_seed[method][scale]
    seed = max(seeds, key=lambda seed: scores[seed])
    report = merge_report(inputs[f"{seed}/{method}"])
    merge(
        [inputs[f"{seed}/{name}"].path for name in adapters],
        work / "adapter",
        method=report["method"],
        options=report["options"],
        scale=scale,
    )


def geometry(domain: DomainContext) -> Unit:
    """Cosines and norms of the deltas of the first training seed -> ``geometry.json``."""
    first = domain.recipe.seeds[0]

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        found = compare([inputs[delta].path for delta in domain.deltas])
        write_json(work / GEOMETRY, found.model_dump(mode="json"))

    return Unit(
        domain.path("geometry"),
        "geometry",
        config={"adapters": domain.deltas},
        inputs={delta: domain.path(f"adapters/{first}/{delta}") for delta in domain.deltas},
        make=make,
    )
