"""What each stage does with its artifacts: the glue between files and the packages that do the work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdelta import micro
from prefdelta.adapter import MemoryAdapter
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.benchmarks import Split, evaluation_texts, prepare
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.results import domain_score
from prefdelta.evaluation.selection import Selection, choose
from prefdelta.evaluation.served import ServedBackend
from prefdelta.llama2c import convert_llama2c
from prefdelta.merging.engine import REPORT_NAME, merge
from prefdelta.merging.geometry import compare
from prefdelta.models import load_tokenizer
from prefdelta.pairs.candidates import with_scores
from prefdelta.pairs.card import data_card, preferred_by
from prefdelta.pairs.pairing import finish_pairs, reverse_labels, shuffle_labels
from prefdelta.pairs.rules import by_order, by_score
from prefdelta.pipeline.unit import Workbench
from prefdelta.recipe import (
    AnySource,
    Benchmark,
    Control,
    Domain,
    Filters,
    Imported,
    ModelRef,
    Pairing,
    Prompts,
    Questions,
    Sampling,
    Scoring,
    Search,
    Server,
    Training,
)
from prefdelta.records import Example, Item, Pair, Record, Sample, Score, read_rows, write_rows
from prefdelta.sampling.backends import opened_sampler
from prefdelta.sampling.prompts import draw_prompts
from prefdelta.sampling.responses import import_responses, sample_responses
from prefdelta.scoring.programmatic import ProgrammaticScorer
from prefdelta.scoring.reward import RewardScorer, load_reward
from prefdelta.scoring.scores import SCORE_ROWS, import_scores, score_responses
from prefdelta.search import PROTOCOLS
from prefdelta.store import Artifact, write_json
from prefdelta.training import joint_pairs, train_delta

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


def write_prompts(work: Path, prompts: Prompts, search: Search | None) -> None:
    """Questions -> ``prompts.jsonl``, asked as the search protocol has it."""
    drawn = draw_prompts(prompts)
    write_rows(work / PROMPTS, [PROTOCOLS[search.protocol].dressed(item) for item in drawn] if search else drawn)


def as_asked(prompts: Questions, search: Search | None) -> Questions:
    """How the questions of ``prompts.jsonl`` are dressed: with the recipe's template, and the protocol's around it."""
    if search is None:
        return prompts
    template = PROTOCOLS[search.protocol].prompt.replace("{question}", prompts.template)
    return prompts.model_copy(update={"template": template})


def write_responses(
    work: Path, prompts: Path, bench: Workbench, source: AnySource, sampling: Sampling, search: Search | None
) -> None:
    """Prompts, and a model, a server or a file of answers -> ``responses.jsonl``, in the order of the prompts."""
    items = read_rows(prompts, Item)
    if isinstance(source, Imported):
        write_rows(work / RESPONSES, import_responses(source, items))
        return
    environment = bench.environment(search)
    with opened_sampler(source, sampling, environment, load=bench.model, release=bench.release) as sampler:
        sample_responses(items, sampler, work, sampling.seed, sampling.n, bench.progress)


def write_scores(work: Path, prompts: Path, responses: Path, bench: Workbench, scoring: Scoring, source: str) -> None:
    """Prompts and answers -> ``scores.jsonl``, in the order of the answers.

    Args:
        work: the working folder.
        prompts: the questions.
        responses: the answers.
        bench: holds one model at a time.
        scoring: who or what scores.
        source: the name of the model that answered, for a file of scores.
    """
    samples = read_rows(responses, Sample)
    if scoring.path is not None:
        write_rows(work / SCORE_ROWS, import_scores(Path(scoring.path.replace("{source}", source)), samples))
        return
    items = read_rows(prompts, Item)
    if scoring.scorer is not None:
        score_responses(items, samples, ProgrammaticScorer(scoring.scorer), work, bench.progress)
        return
    assert scoring.model is not None
    bench.release()
    scorer = RewardScorer(
        load_reward(scoring.model), batch_size=scoring.batch_size, max_length=scoring.max_length, label=scoring.label
    )
    score_responses(items, samples, scorer, work, bench.progress)


@dataclass(frozen=True)
class PairFiles:
    """What pairs are made of: prompts, and answers of the weak and of the weaker model, with scores where needed."""

    prompts: Path
    chosen: Path
    rejected: Path
    chosen_scores: Path | None = None
    rejected_scores: Path | None = None


def write_pairs(
    work: Path,
    files: PairFiles,
    pairing: Pairing,
    filters: Filters,
    about: Mapping[str, Any],
    *,
    questions: Questions | None = None,
    benchmarks: Sequence[Benchmark] = (),
    student: ModelRef | None = None,
) -> None:
    """Prompts and two files of answers to them -> ``pairs.jsonl`` and its data card.

    Args:
        work: the working folder.
        files: prompts, answers, scores.
        pairing: which answers make a pair.
        filters: which pairs are dropped.
        about: where they come from, for the card.
        questions: how the prompts were dressed.
        benchmarks: the evaluation sets, for decontamination.
        student: whose tokenizer counts tokens.
    """
    items = read_rows(files.prompts, Item)
    chosen, rejected = read_rows(files.chosen, Sample), read_rows(files.rejected, Sample)
    if pairing.needs_scores:
        if files.chosen_scores is None or files.rejected_scores is None:
            raise PrefdeltaError(f"the pairing rule {pairing.rule!r} needs scores of all answers; give them.")
        pools = [
            with_scores("weak", chosen, read_rows(files.chosen_scores, Score)),
            with_scores("weaker", rejected, read_rows(files.rejected_scores, Score)),
        ]
        proposal = by_score(items, pools, pairing)
    else:
        proposal = by_order(items, chosen, rejected)
    pairs, counts = finish_pairs(
        items,
        proposal,
        filters,
        questions=questions,
        evaluated=evaluation_texts(benchmarks) if filters.decontaminate else None,
        tokenizer=load_tokenizer(student) if filters.identical_within and student else None,
    )
    write_rows(work / PAIRS, pairs)
    write_json(work / "counts.json", counts)
    card = data_card(pairs, counts, about, preferred=preferred_by(pairing))
    (work / "README.md").write_text(card, encoding="utf-8")


def train(
    work: Path,
    examples: Sequence[Example],
    bench: Workbench,
    student: ModelRef,
    training: Training,
    *,
    seed: int,
    init_seed: int,
    adapter: Path | None = None,
    cache: Path | None = None,
) -> None:
    """Pairs, triples or demonstrations -> a LoRA adapter, fresh or trained further."""
    bench.release()
    train_delta(
        student,
        examples,
        training,
        seed=seed,
        init_seed=init_seed,
        folder=work,
        adapter=adapter,
        cache=cache,
        progress=bench.progress,
    )


def pairs_for(control: Control | None, pairs: Path, seed: int) -> Sequence[Pair]:
    """The pairs of a file, as a control has them: it may change what they say."""
    read = read_rows(pairs, Pair)
    if control == "shuffled":
        return shuffle_labels(read, seed)
    if control == "reversed":
        return reverse_labels(read)
    return read


def all_pairs(inputs: Inputs, deltas: Sequence[str]) -> Sequence[Pair]:
    """The union of the pair sets of some deltas, for joint training."""
    return joint_pairs({name: read_rows(inputs[f"pairs of {name}"].path / PAIRS, Pair) for name in deltas})


def merge_adapters(work: Path, inputs: Inputs, method: str, adapters: Sequence[str]) -> None:
    """Adapters -> one adapter, at λ = 1. GAM aligns to the delta that does best on validation (PDA, footnote 2)."""
    options = merge_options(inputs, method, adapters)
    merge([inputs[name].path for name in adapters], work / "adapter", method=method, options=options, compare=True)


def merge_options(inputs: Inputs, method: str, adapters: Sequence[str]) -> dict[str, Any]:
    """A merge's options; ``inputs`` holds each adapter's validation as ``validation of NAME``."""
    if not method.startswith("gam"):
        return {}
    scores = [_scores(inputs[f"validation of {name}"])[1.0] for name in adapters]
    return {"reference": scores.index(max(scores))}


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
    model: ModelRef | Server,
    adapter: Path | MemoryAdapter | str | None,
    scale: float,
    benchmarks: Sequence[Benchmark],
    sampling: Sampling,
    search: Search | None,
    split: Split,
    seed: int,
) -> None:
    """A model, here or served, on benchmarks -> ``records.jsonl``; left alone if it is there already."""
    if (folder / RECORDS).is_file():
        return
    folder.mkdir(exist_ok=True)
    prepared = {benchmark.name: prepare(benchmark, split, sampling) for benchmark in benchmarks}
    asked = {name: side for name, side in prepared.items() if side.items}
    embedded = all(benchmark.questions.source.startswith("micro:") for benchmark in benchmarks)
    answering = ServedBackend(model) if isinstance(model, Server) else bench.model(model)
    Evaluator(answering, behaviours=micro.behaviours if embedded else None).evaluate_to_folder(
        folder,
        adapter,
        scale,
        {name: side.items for name, side in asked.items()},
        {name: side.scorer for name, side in asked.items()},
        {name: side.sampling or sampling for name, side in asked.items()},
        bench.environment(search),
        seed=seed,
        progress=bench.progress,
    )


def _scores(artifact: Artifact) -> dict[float, float]:
    raw = json.loads((artifact.path / SCORES).read_text(encoding="utf-8"))
    return {float(scale): score for scale, score in raw.items()}
