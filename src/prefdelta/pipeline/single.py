"""Each stage by itself, on files a user names: the same stage functions, outside a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from prefdelta.evaluation.results import domain_score
from prefdelta.models import fingerprint
from prefdelta.pipeline import stages
from prefdelta.pipeline.display import Display
from prefdelta.pipeline.identity import path_digest, portable, seed_from
from prefdelta.pipeline.run import make
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe import (
    Benchmark,
    Filters,
    ModelRef,
    Sampling,
    Search,
    Training,
    configure,
    settings_mapping,
)
from prefdelta.records import Record, read_rows
from prefdelta.store import Artifact, Store

_ORIGIN = "--set"


def sample_unit(model: str, prompts: Path, corpus: str | None, settings: Sequence[str]) -> Unit:
    """One model answers a file of prompts."""
    ref = ModelRef(path=model)
    sampling = configure(Sampling, settings_mapping(settings), origin=_ORIGIN)
    search = Search(corpus=corpus) if corpus else None
    return _unit(
        "responses",
        config={"model": ref, "sampling": sampling, "search": search},
        files={"prompts": str(prompts), "corpus": corpus},
        models={"model": ref},
        build=lambda work, bench: stages.write_responses(work, prompts, bench, ref, sampling, search),
    )


def pair_unit(prompts: Path, chosen: Path, rejected: Path, settings: Sequence[str]) -> Unit:
    """Two files of answers become pairs."""
    filters = configure(Filters, settings_mapping(settings), origin=_ORIGIN)
    about = {"weak": chosen.name, "weaker": rejected.name}
    return _unit(
        "pairs",
        config={"filters": filters},
        files={"prompts": str(prompts), "chosen": str(chosen), "rejected": str(rejected)},
        build=lambda work, bench: stages.write_pairs(work, prompts, chosen, rejected, filters, about),
    )


def train_unit(pairs: Path, student: str, seed: int, settings: Sequence[str]) -> Unit:
    """A file of pairs becomes an adapter."""
    ref = ModelRef(path=student)
    training = configure(Training, settings_mapping(settings), origin=_ORIGIN)
    return _unit(
        "adapters",
        config={"student": ref, "training": training, "seed": seed},
        files={"pairs": str(pairs)},
        models={"student": ref},
        build=lambda work, bench: stages.train(
            work,
            pairs,
            bench,
            ref,
            training,
            seed=seed_from(seed, "order"),
            init_seed=seed_from(seed, "init"),
            control=None,
            cache=None,
        ),
    )


def evaluate_unit(
    model: str,
    items: str,
    adapter: Path | None,
    scale: float,
    scorer: str,
    count: int,
    seed: int,
    corpus: str | None,
    settings: Sequence[str],
) -> Unit:
    """A model, bare or with an adapter, is scored on one benchmark."""
    ref = ModelRef(path=model)
    sampling = configure(Sampling, settings_mapping(settings), origin=_ORIGIN)
    search = Search(corpus=corpus) if corpus else None
    name = items.removeprefix("micro:").rsplit("/", 1)[-1].removesuffix(".jsonl")
    benchmark = configure(
        Benchmark,
        {
            "name": name,
            "questions": {"source": items, "split": "test"},
            "scorer": scorer,
            "validation": 0,
            "test": count,
        },
        origin="evaluate",
    )
    return _unit(
        "evaluation",
        config={
            "model": ref,
            "benchmark": benchmark,
            "scale": scale,
            "sampling": sampling,
            "search": search,
            "seed": seed,
        },
        files={"items": items, "adapter": str(adapter) if adapter else None, "corpus": corpus},
        models={"model": ref},
        build=lambda work, bench: stages.evaluate(
            work, bench, ref, adapter, scale, [benchmark], sampling, search, "test", seed
        ),
    )


def read_score(folder: Path) -> str:
    """One line: the score of an evaluation, and how many answers could not be read."""
    records = read_rows(folder / stages.RECORDS, Record)
    unparsed = sum(record.parsed is None for record in records)
    return f"score {100 * domain_score(records):.1f} on {len(records)} items ({unparsed} without a readable answer)"


def run_single(unit: Unit, output: Path, console: Console) -> Artifact:
    """Make one unit's artifact at ``output``, unless it is there already."""
    with Display(console) as display:
        display.start(output.name)
        store = Store(output.parent, journal=False)
        artifact = make(unit, store, {}, Workbench(display.inner), name=output.name)
        display.finish()
    return artifact


def _unit(
    stage: str,
    *,
    config: Mapping[str, Any],
    files: Mapping[str, str | None],
    build: Any,
    models: Mapping[str, ModelRef] | None = None,
) -> Unit:
    named = {label: path for label, path in files.items() if path is not None and not path.startswith("micro:")}
    return Unit(
        name="",
        stage=stage,
        config=portable(config),
        inputs={},
        externals={
            **{label: partial(path_digest, path) for label, path in named.items()},
            **{label: partial(fingerprint, ref) for label, ref in (models or {}).items()},
        },
        make=lambda work, inputs, bench: build(work, bench),
        work=Work(),
        resumable=True,
    )
