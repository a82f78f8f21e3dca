"""Each stage by itself, on files a user names: the same stage functions, outside a recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.results import domain_score
from prefdelta.learning.generative import learn_language_merge
from prefdelta.learning.methods import get_learned
from prefdelta.models import fingerprint
from prefdelta.pipeline import stages
from prefdelta.pipeline.display import Display
from prefdelta.pipeline.identity import (
    benchmark_externals,
    file_externals,
    path_digest,
    portable,
    seed_from,
    source_config,
)
from prefdelta.pipeline.making import assist, make
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe import (
    LM_EVAL,
    Benchmark,
    Filters,
    ModelRef,
    Pairing,
    Sampling,
    Scoring,
    Search,
    Server,
    Training,
    configure,
    settings_mapping,
)
from prefdelta.recipe.learning import LanguageLearning
from prefdelta.records import Record, read_examples, read_rows
from prefdelta.retrieval.opening import build_index
from prefdelta.store import Artifact, Store

_ORIGIN = "--set"
_BATCHING = ("batch_size",)  # settings of an lm_eval task's answers that are not the task's


def sample_unit(model: str, prompts: Path, corpus: str | None, server: str | None, settings: Sequence[str]) -> Unit:
    """One model, here or behind the URL ``server``, answers a file of prompts."""
    raw = settings_mapping(settings)
    about = raw.pop("source", {})
    if not isinstance(about, Mapping):
        raise PrefdeltaError(f"{_ORIGIN} source: give its settings singly, as source.thinking=true.")
    source: ModelRef | Server = (
        configure(Server, {"url": server, "model": model, **about}, origin=_ORIGIN)
        if server
        else configure(ModelRef, {"path": model, **about}, origin=_ORIGIN)
    )
    sampling = configure(Sampling, raw, origin=_ORIGIN)
    search = Search(corpus=corpus) if corpus else None
    return _unit(
        "responses",
        config={"model": source_config(source), "sampling": sampling, "search": search},
        files={"prompts": str(prompts), "corpus": corpus},
        models={"model": source} if isinstance(source, ModelRef) else {},
        build=lambda work, bench: stages.write_responses(work, prompts, bench, source, sampling, search),
    )


def score_unit(prompts: Path, responses: Path, settings: Sequence[str]) -> Unit:
    """A file of answers is scored."""
    scoring = configure(Scoring, settings_mapping(settings), origin=_ORIGIN)
    files: dict[str, str | None] = {"prompts": str(prompts), "responses": str(responses), "scores": scoring.path}
    return _unit(
        "scores",
        config={"scoring": scoring},
        files=files,
        models={"reward": scoring.model} if scoring.model else {},
        build=lambda work, bench: stages.write_scores(work, prompts, responses, bench, scoring, responses.stem),
    )


def pair_unit(files: stages.PairFiles, student: str | None, settings: Sequence[str]) -> Unit:
    """Two files of answers, and of scores where the rule needs them, become pairs."""
    raw = settings_mapping(settings)
    pairing = configure(
        Pairing, {key: raw.pop(key) for key in list(raw) if key in Pairing.model_fields}, origin=_ORIGIN
    )
    filters = configure(Filters, raw, origin=_ORIGIN)
    ref = ModelRef(path=student) if student else None
    named = {name: path for name, path in vars(files).items() if path is not None}
    about = {**{name: path.name for name, path in named.items()}, "pairing": pairing, "filters": filters}
    return _unit(
        "pairs",
        config={"pairing": pairing, "filters": filters, "student": ref},
        files={name: str(path) for name, path in named.items()},
        models={"student": ref} if ref else {},
        build=lambda work, bench: stages.write_pairs(work, files, pairing, filters, portable(about), student=ref),
    )


def train_unit(examples: Path, student: str, adapter: Path | None, seed: int, settings: Sequence[str]) -> Unit:
    """A file of examples becomes an adapter, a fresh one or ``adapter`` trained further."""
    ref = ModelRef(path=student)
    training = configure(Training, settings_mapping(settings), origin=_ORIGIN)
    return _unit(
        "adapters",
        config={"student": ref, "training": training.settled, "seed": seed},
        files={"examples": str(examples), "adapter": str(adapter) if adapter else None},
        models={"student": ref},
        build=lambda work, bench: stages.train(
            work,
            read_examples(examples),
            bench,
            ref,
            training,
            seed=seed_from(seed, "order"),
            init_seed=seed_from(seed, "init"),
            adapter=adapter,
        ),
    )


def evaluate_unit(
    model: str,
    server: str | None,
    benchmark: Mapping[str, Any],
    adapter: str | None,
    scale: float,
    seed: int,
    search: Mapping[str, Any] | None,
    settings: Sequence[str],
) -> Unit:
    """A model, bare or with an adapter, is scored on one benchmark.

    Args:
        model: a reference; with a server, the server's name for it.
        server: the URL of a server that answers, if the model is not to be loaded here.
        benchmark: ``items`` (a file, ``micro:TASK`` or ``lm_eval:TASK``), ``scorer``, ``count``, ``data``.
        adapter: the folder of an adapter; with a server, the server's name for one.
        scale: λ.
        seed: of the random numbers.
        search: ``corpus`` and ``protocol``, if the model may search.
        settings: of the sampling, or for an lm_eval task of its ``generation``.
    """
    ref = Server(url=server, model=model) if server else ModelRef(path=model)
    asked = _benchmark(benchmark, settings)
    drawn = settings_mapping(settings)
    if asked.lm_eval:
        drawn = {key: value for key, value in drawn.items() if key in _BATCHING}
    sampling = configure(Sampling, drawn, origin=_ORIGIN)
    environment = configure(Search, search, origin="--corpus") if search else None
    variant = Path(adapter) if adapter and not server else adapter
    return _unit(
        "evaluation",
        config={
            "model": ref,
            "benchmark": asked,
            "adapter": adapter if server else None,
            "scale": scale,
            "sampling": sampling,
            "search": environment,
            "seed": seed,
        },
        files={"adapter": None if server else adapter},
        models={"model": ref} if isinstance(ref, ModelRef) else {},
        externals={
            **benchmark_externals([asked]),
            **(file_externals(environment.corpus, "corpus") if environment else {}),
        },
        build=lambda work, bench: stages.evaluate(
            work, bench, ref, variant, scale, [asked], sampling, environment, "test", seed
        ),
    )


def index_unit(corpus: str, encoder: str | None, ann: Literal["flat", "hnsw"]) -> Unit:
    """A corpus becomes a search index."""
    return _unit(
        "index",
        config={"corpus": corpus, "encoder": encoder, "ann": ann if encoder else None},
        files={},
        externals={**file_externals(corpus, "corpus"), **file_externals(encoder or "", "encoder")},
        build=lambda work, bench: build_index(work, corpus, encoder=encoder, kind=ann),
    )


def _benchmark(given: Mapping[str, Any], settings: Sequence[str]) -> Benchmark:
    items = str(given["items"])
    name = re.sub(r"[^a-z0-9._-]+", "-", items.rpartition(":")[2].rsplit("/", 1)[-1].removesuffix(".jsonl").lower())
    raw: dict[str, Any] = {"name": name, "validation": 0, "test": given["count"]}
    if items.startswith(LM_EVAL):
        generation = {key: value for key, value in settings_mapping(settings).items() if key not in _BATCHING}
        raw["lm_eval"] = {"task": items.removeprefix(LM_EVAL), "data": given["data"], "generation": generation}
    else:
        raw |= {"questions": {"source": items, "split": "test"}, "scorer": given["scorer"]}
    return configure(Benchmark, raw, origin="evaluate")


def learn_unit(
    adapters: Sequence[Path],
    base: str,
    method: str,
    rows: Sequence[Path],
    prompts: Sequence[Path],
    seed: int,
    settings: Sequence[str],
) -> Unit:
    """Adapters become one, by coefficients learned on held-out pairs, answers or prompts."""
    ref = ModelRef(path=base)
    learning = configure(LanguageLearning, settings_mapping(settings), origin=_ORIGIN)
    files = {"adapter": adapters, "rows": rows, "prompts": prompts}
    return _unit(
        "learned merges",
        config={
            "base": ref,
            "method": get_learned(method).name,
            "learning": learning,
            "seed": seed,
            "names": {label: [path.name for path in paths] for label, paths in files.items()},
        },
        files={f"{label} {index}": str(path) for label, paths in files.items() for index, path in enumerate(paths)},
        models={"base": ref},
        build=lambda work, bench: learn_language_merge(
            bench.model(ref),
            adapters,
            work,
            method=method,
            settings=learning,
            rows=rows,
            prompts=prompts,
            seed=seed,
            progress=bench.progress,
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


def assists() -> bool:
    """Whether this is not the first of several processes (``accelerate launch``, ``torchrun``) that share the work."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")) > 0


def assist_single(unit: Unit, output: Path) -> None:
    """Do this process's share of the unit that the first one makes with :func:`run_single`."""
    assist(unit, Store(output.parent, journal=False), output.name)


def _unit(
    stage: str,
    *,
    config: Mapping[str, Any],
    files: Mapping[str, str | None],
    build: Any,
    models: Mapping[str, ModelRef] | None = None,
    externals: Mapping[str, Callable[[], str]] | None = None,
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
            **(externals or {}),
        },
        make=lambda work, inputs, bench: build(work, bench),
        work=Work(),
        resumable=True,
    )
