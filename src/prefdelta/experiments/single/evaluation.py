"""The unit that scores a model on one benchmark, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import exists, write_json
from prefdelta.core.folder_names import plain_label
from prefdelta.core.names import public_name
from prefdelta.core.records import RECORDS, Record, read_rows
from prefdelta.evaluation.benchmarks import benchmark_items
from prefdelta.evaluation.doubts import doubts
from prefdelta.evaluation.results import RESULTS, SCHEMA, EvaluationResults, Score, read_as
from prefdelta.evaluation.score_table import ScoreTable
from prefdelta.experiments.checking import checked
from prefdelta.experiments.evaluation import Exam, Subject, evaluate
from prefdelta.experiments.identity import benchmark_externals, corpus_externals
from prefdelta.experiments.room import check_questions
from prefdelta.experiments.single.settings import search_from, section, served_or_loaded
from prefdelta.experiments.single.unit import ORIGIN, single_unit
from prefdelta.experiments.unit import RunContext, Unit
from prefdelta.generation.prompts import load_questions
from prefdelta.merging.scale import check_scale
from prefdelta.recipe import (
    LM_EVAL,
    PAIRS,
    REGISTERED,
    Benchmark,
    ModelRef,
    Questions,
    Sampling,
    configure,
    settings_mapping,
)

_FILES = (".jsonl", ".json", ".zip")
_SOME = 500  # items of a benchmark that is no file, unless a count is given
_ALL = 2**31  # more pairs than a file holds
_BATCHING = ("batch_size",)  # settings of an lm_eval task's answers that are not the task's


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
        benchmark: ``items`` (a file, ``micro:TASK``, ``lm_eval:TASK`` or ``pairs:FILE``), ``scorer``, ``count``,
            ``data``.
        adapter: the folder of an adapter; with a server, the server's name for one.
        scale: λ.
        seed: of the random numbers.
        search: ``corpus``, ``protocol`` and ``retriever``, if the model may search.
        settings: of the sampling, or for an lm_eval task of its ``generation``, or of pairs; ``questions.KEY``,
            ``model.KEY`` and ``search.KEY`` as in a recipe.
    """
    check_scale(scale)
    drawn = settings_mapping(settings)
    ref = served_or_loaded("model", model, server, drawn)
    searched = search_from(**{"corpus": None, **(search or {})}, raw=drawn)
    environment = checked(searched) if searched else None
    asked = _benchmark(benchmark, drawn)
    if asked.pairs:
        drawn = {}
    elif asked.lm_eval:
        drawn = {key: value for key, value in drawn.items() if key in _BATCHING}
    sampling = configure(Sampling, drawn, origin=ORIGIN)
    if sampling.n != 1:
        raise PrefdeltaError(f"{ORIGIN}: n must be 1: an item is answered once; give --seed for other answers.")
    variant = Path(adapter) if adapter and not server else adapter

    def build(work: Path, context: RunContext) -> None:
        if isinstance(ref, ModelRef) and not asked.lm_eval and not asked.pairs:
            check_questions("items", ref, benchmark_items(asked, "test"), environment)
        evaluate(work, context, Subject(ref, variant, scale), Exam([asked], sampling, environment, "test", seed))
        write_results(work, model=model, adapter=adapter, scale=scale, seed=seed)

    return single_unit(
        "evaluation",
        config={
            "model": ref,
            "benchmark": asked,
            "adapter": adapter if server else None,
            "scale": scale,
            "sampling": sampling,
            "search": environment,
            "seed": seed,
            "results": SCHEMA,
        },
        files={"adapter": None if server else adapter},
        models={"model": ref} if isinstance(ref, ModelRef) else {},
        externals={**benchmark_externals([asked]), **corpus_externals(environment)},
        reads=[
            asked.questions.source,
            *([asked.lm_eval.data] if asked.lm_eval and asked.lm_eval.data else []),
            *([asked.pairs.path] if asked.pairs and asked.pairs.path else []),
            *([environment.corpus] if environment else []),
        ],
        build=build,
    )


def _benchmark(given: Mapping[str, Any], drawn: dict[str, Any]) -> Benchmark:
    """The benchmark of the command, with its settings ``questions.KEY``, which are taken from ``drawn``."""
    items = str(given["items"])
    if items.startswith(PAIRS):
        return pairs_benchmark(items.removeprefix(PAIRS), given["count"], drawn)
    name = plain_label(items.rpartition(":")[2].rsplit("/", 1)[-1].removesuffix(".jsonl").lower())
    about = section("questions", drawn)
    local = Path(items)
    known = exists(items) and (local.is_file() or (local / "state.json").is_file())
    file = known or local.suffix in _FILES
    # A file has no parts that were told apart by its author: it is asked whole.
    questions = {"source": items, **({} if file else {"split": "test"}), **about}
    whole = len(load_questions(configure(Questions, questions, origin=f"{ORIGIN} questions"))) if file else _SOME
    if whole == 0:
        raise PrefdeltaError(f"{items} holds no items to evaluate on.")
    raw: dict[str, Any] = {"name": name, "validation": 0, "test": given["count"] or whole}
    if items.startswith(LM_EVAL):
        generation = {key: value for key, value in drawn.items() if key not in _BATCHING}
        raw["lm_eval"] = {"task": items.removeprefix(LM_EVAL), "data": given["data"], "generation": generation}
    elif items.startswith(REGISTERED):
        raw |= {"benchmark": items.removeprefix(REGISTERED), "scorer": given["scorer"]}
    else:
        raw |= {"questions": questions, "scorer": given["scorer"]}
    return checked(configure(Benchmark, raw, origin="evaluate"))


def pairs_benchmark(path: str, count: int | None = None, settings: Mapping[str, Any] | None = None) -> Benchmark:
    """A file of preference pairs as a benchmark, whole or ``count`` of them; ``settings`` are ``beta``, ``max_length``.

    Raises:
        PrefdeltaError: a setting is unknown or wrong.
    """
    name = plain_label(Path(path).name.removesuffix(".jsonl").lower())
    raw = {"name": name, "validation": 0, "test": count or _ALL, "pairs": {"path": path, **(settings or {})}}
    return configure(Benchmark, raw, origin=ORIGIN)


def write_results(folder: Path, *, model: str, adapter: str | None, scale: float, seed: int) -> None:
    """What the records in ``folder`` come to -> ``results.json`` beside them."""
    found = evaluation_results(
        read_rows(folder / RECORDS, Record),
        model=public_name(model) or model,
        adapter=public_name(adapter),
        scale=scale,
        seed=seed,
    )
    write_json(folder / RESULTS, found.to_json())


def evaluation_results(
    records: Sequence[Record], *, model: str, adapter: str | None, scale: float, seed: int
) -> EvaluationResults:
    """What the records of one model come to; ``seed`` is of the random numbers of its answers."""
    who = "the model"
    table = ScoreTable.from_records({(who, None): records})
    tasks = {
        task: Score(
            score=table.score(who, task),
            n=table.items(task),
            **asdict(table.health(who, task)),
            measures=table.measures(who, task),
        )
        for task in table.tasks
    }
    return EvaluationResults(
        model=model,
        adapter=adapter,
        scale=scale,
        seed=seed,
        score=table.score(who),
        tasks=tasks,
        doubts=doubts({who: tasks}),
    )


def sentence(found: EvaluationResults) -> str:
    """The score, and how many answers could not be read; what speaks against it comes first."""
    items = sum(task.n for task in found.tasks.values())
    unparsed = sum(round(task.unparsed * task.n / 100) for task in found.tasks.values())
    score = f"score {found.score:.1f} on {items} items ({unparsed} without a readable answer)"
    compared = [task.measures for task in found.tasks.values() if task.measures and "margin" in task.measures]
    if compared:
        margin, loss = compared[0]["margin"], compared[0]["loss"]
        score = f"prefers the chosen answer of {found.score:.1f} % of {items} pairs; margin {margin.mean:+.3f} nats "
        score += f"[{margin.low:+.3f}, {margin.high:+.3f}], loss {loss.mean:.4f}"
    return "".join(f"Do not trust this yet: {doubt}.\n" for doubt in found.doubts) + score


def read_score(folder: Path) -> str:
    """The sentence of an evaluation that is in ``folder``."""
    again = "evaluate again with --overwrite."
    return sentence(read_as(folder / RESULTS, TypeAdapter(EvaluationResults), again=again))
