"""What each stage does with its artifacts: the glue between files and the packages that do the work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta import micro
from prefdelta.evaluation.benchmarks import Split, benchmark_items
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.results import domain_score
from prefdelta.evaluation.selection import Selection, choose
from prefdelta.llama2c import convert_llama2c
from prefdelta.merging.engine import REPORT_NAME, merge
from prefdelta.merging.geometry import compare
from prefdelta.pairs.card import data_card
from prefdelta.pairs.pairing import make_pairs, reverse_labels, shuffle_labels
from prefdelta.pairs.prompts import draw_prompts
from prefdelta.pairs.responses import import_responses, sample_responses
from prefdelta.pairs.sampling import TransformersSampler
from prefdelta.pipeline.unit import Workbench
from prefdelta.recipe import (
    Benchmark,
    Control,
    Domain,
    Filters,
    Imported,
    ModelRef,
    Prompts,
    Sampling,
    Search,
    Training,
)
from prefdelta.records import Item, Pair, Record, Sample, read_rows, write_rows
from prefdelta.store import Artifact, write_json
from prefdelta.training.train import train_delta

PROMPTS = "prompts.jsonl"
RESPONSES = "responses.jsonl"
PAIRS = "pairs.jsonl"
RECORDS = "records.jsonl"
SCORES = "scores.json"
SELECTION = "selection.json"
GEOMETRY = "geometry.json"

Inputs = Mapping[str, Artifact]


def convert_student(work: Path, student: ModelRef) -> None:
    """Another format's checkpoint -> a Hugging Face model folder."""
    convert_llama2c(Path(student.path), work / "model")


def write_prompts(work: Path, prompts: Prompts) -> None:
    """Questions -> ``prompts.jsonl``."""
    write_rows(work / PROMPTS, draw_prompts(prompts))


def write_responses(
    work: Path,
    prompts: Path,
    bench: Workbench,
    source: ModelRef | Imported,
    sampling: Sampling,
    search: Search | None,
) -> None:
    """Prompts, and a model or a file of answers -> ``responses.jsonl``, in the order of the prompts."""
    items = read_rows(prompts, Item)
    if isinstance(source, Imported):
        write_rows(work / RESPONSES, import_responses(source, items))
        return
    index, turns = (bench.index(search), search.max_turns) if search else (None, 0)
    sampler = TransformersSampler(bench.model(source), sampling, index, turns)
    sample_responses(items, sampler, work, seed=sampling.seed, progress=bench.progress)


def write_pairs(
    work: Path, prompts: Path, chosen: Path, rejected: Path, filters: Filters, about: Mapping[str, Any]
) -> None:
    """Prompts and two files of answers to them -> ``pairs.jsonl`` and its data card."""
    pairs, counts = make_pairs(
        read_rows(prompts, Item), read_rows(chosen, Sample), read_rows(rejected, Sample), filters
    )
    write_rows(work / PAIRS, pairs)
    write_json(work / "counts.json", counts)
    (work / "README.md").write_text(data_card(pairs, counts, about), encoding="utf-8")


def train(
    work: Path,
    pairs: Path,
    bench: Workbench,
    student: ModelRef,
    training: Training,
    *,
    seed: int,
    init_seed: int,
    control: Control | None,
    cache: Path | None,
) -> None:
    """Pairs -> a LoRA adapter. A control changes what the pairs say, or how they are learned from."""
    bench.release()
    train_delta(
        student,
        _controlled(read_rows(pairs, Pair), control, seed),
        training,
        seed=seed,
        init_seed=init_seed,
        folder=work,
        cache=cache,
        progress=bench.progress,
    )


def _controlled(pairs: Sequence[Pair], control: Control | None, seed: int) -> Sequence[Pair]:
    if control == "shuffled":
        return shuffle_labels(pairs, seed)
    if control == "reversed":
        return reverse_labels(pairs)
    return pairs


def merge_adapters(work: Path, inputs: Inputs, method: str, adapters: Sequence[str]) -> None:
    """Adapters -> one adapter, at λ = 1. GAM aligns to the delta that does best on validation (PDA, footnote 2)."""
    options: dict[str, Any] = {}
    if method.startswith("gam"):
        scores = [_scores(inputs[f"validation of {name}"])[1.0] for name in adapters]
        options["reference"] = scores.index(max(scores))
    merge([inputs[name].path for name in adapters], work / "adapter", method=method, options=options)


def validate(
    work: Path,
    adapter: Path,
    bench: Workbench,
    student: ModelRef,
    domain: Domain,
    scales: Sequence[float],
    seed: int,
) -> None:
    """An adapter at every scale λ on the validation items -> ``scores.json``: λ -> domain score in [0, 1]."""
    scores = {
        f"{scale:g}": domain_score(
            _evaluate(work / f"scale-{scale:g}", bench, student, adapter, scale, domain, "validation", seed)
        )
        for scale in scales
    }
    write_json(work / SCORES, scores)


def test(
    work: Path,
    adapter: Path | None,
    bench: Workbench,
    model: ModelRef,
    domain: Domain,
    scales: Sequence[float],
    seed: int,
) -> None:
    """A model, bare or with an adapter at some scales, on the test items -> one folder of records per scale."""
    for scale in scales:
        _evaluate(work / f"scale-{scale:g}", bench, model, adapter, scale, domain, "test", seed)


def select(work: Path, inputs: Inputs, groups: Mapping[str, Sequence[str]]) -> None:
    """Validation scores -> ``selection.json``: for each group of variants, all scores by seed.

    Args:
        work: the working folder.
        inputs: ``SEED/VARIANT`` -> its validation artifact.
        groups: ``merges``, ``singles`` and ``controls``, with the variants in each.
    """
    table: dict[str, dict[str, dict[str, list[float]]]] = {group: {} for group in groups}
    for label, artifact in inputs.items():
        variant = label.split("/", 1)[1]
        (group,) = [name for name, members in groups.items() if variant in members]
        by_scale = table[group].setdefault(variant, {})
        for scale, score in _scores(artifact).items():
            by_scale.setdefault(f"{scale:g}", []).append(score)
    write_json(work / SELECTION, table)


def selections(artifact: Artifact) -> dict[str, Selection]:
    """What validation chose in each group of variants that has any."""
    table = json.loads((artifact.path / SELECTION).read_text(encoding="utf-8"))
    return {
        group: choose(
            {(name, float(scale)): values for name, by_scale in variants.items() for scale, values in by_scale.items()}
        )
        for group, variants in table.items()
        if variants
    }


def tuned_scales(artifact: Artifact, variant: str) -> list[float]:
    """λ = 1 and, if it is another one, the λ that validation chose for a variant."""
    for selection in selections(artifact).values():
        if variant in selection.scale:
            return sorted({1.0, selection.scale[variant]})
    return [1.0]


def final_merge(work: Path, inputs: Inputs, seeds: Sequence[int], adapters: Sequence[str]) -> None:
    """The adapter to use: the method and λ that validation chose, from the seed that did best on validation.

    Args:
        work: the working folder.
        inputs: ``selection``; ``SEED/DELTA`` -> each adapter; ``SEED/METHOD`` -> each merge of the chosen method.
        seeds: the training seeds, in the recipe's order.
        adapters: the deltas, in the recipe's order.
    """
    chosen = selections(inputs["selection"])["merges"]
    scale = chosen.scale[chosen.best]
    table = json.loads((inputs["selection"].path / SELECTION).read_text(encoding="utf-8"))
    scores = table["merges"][chosen.best][f"{scale:g}"]
    seed = seeds[scores.index(max(scores))]
    merge(
        [inputs[f"{seed}/{name}"].path for name in adapters],
        work / "adapter",
        method=chosen.best,
        options=merge_report(inputs[f"{seed}/{chosen.best}"])["options"],
        scale=scale,
    )


def merge_report(artifact: Artifact) -> dict[str, Any]:
    """What a merge said of itself."""
    return dict(json.loads((artifact.path / "adapter" / REPORT_NAME).read_text(encoding="utf-8")))


def write_geometry(work: Path, adapters: Sequence[Path]) -> None:
    """How the deltas lie to one another -> ``geometry.json``."""
    write_json(work / GEOMETRY, compare(adapters).model_dump(mode="json"))


def _evaluate(
    folder: Path,
    bench: Workbench,
    model: ModelRef,
    adapter: Path | None,
    scale: float,
    domain: Domain,
    split: Split,
    seed: int,
) -> list[Record]:
    evaluate(
        folder,
        bench,
        model,
        adapter,
        scale,
        domain.benchmarks,
        domain.evaluation_sampling or domain.sampling,
        domain.search,
        split,
        seed,
    )
    return read_rows(folder / RECORDS, Record)


def evaluate(
    folder: Path,
    bench: Workbench,
    model: ModelRef,
    adapter: Path | None,
    scale: float,
    benchmarks: Sequence[Benchmark],
    sampling: Sampling,
    search: Search | None,
    split: Split,
    seed: int,
) -> None:
    """A model on benchmarks -> ``records.jsonl``; left alone if it is there already."""
    if (folder / RECORDS).is_file():
        return
    folder.mkdir(exist_ok=True)
    items = {benchmark.name: benchmark_items(benchmark, split) for benchmark in benchmarks}
    embedded = all(benchmark.questions.source.startswith("micro:") for benchmark in benchmarks)
    Evaluator(bench.model(model), behaviours=micro.behaviours if embedded else None).evaluate_to_folder(
        folder,
        adapter,
        scale,
        {name: entries for name, entries in items.items() if entries},
        {benchmark.name: benchmark.scorer for benchmark in benchmarks},
        sampling,
        (bench.index(search), search) if search else None,
        seed=seed,
        progress=bench.progress,
    )


def _scores(artifact: Artifact) -> dict[float, float]:
    raw = json.loads((artifact.path / SCORES).read_text(encoding="utf-8"))
    return {float(scale): score for scale, score in raw.items()}
