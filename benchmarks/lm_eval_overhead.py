"""What it costs to run an lm_eval task through prefdelta instead of through lm_eval itself.

    python benchmarks/lm_eval_overhead.py

Both answer the same questions with the same model in memory, greedily, in batches of the same size. The two take turns,
and the medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from prefdelta.core.models import LoadedModel, load
from prefdelta.evaluation.benchmarks import prepare
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.lm_eval.benchmark import _load
from prefdelta.evaluation.lm_eval.loading import own_tasks, quiet
from prefdelta.generation.local import TransformersSampler
from prefdelta.recipe import Benchmark, ModelRef, Sampling

GOAL = 5.0  # per cent


def through_lm_eval(model: LoadedModel, task: str, batch: int) -> dict[str, tuple[float, str]]:
    """Item -> score and answer, by ``lm_eval.simple_evaluate``."""
    with quiet():
        results = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=batch),
            tasks=[task],
            task_manager=TaskManager(include_path=str(own_tasks()), include_defaults=False),
            apply_chat_template=True,
            bootstrap_iters=0,
        )
    return {
        f"{task}/{row['doc_id']}-{row['doc_hash'][:8]}": (row["exact_match"], row["resps"][0][0])
        for row in results["samples"][task]
    }


def through_us(model: LoadedModel, task: str, batch: int) -> dict[str, tuple[float, str]]:
    """Item -> score and answer, by :class:`Evaluator`; the task is loaded afresh."""
    _load.cache_clear()
    benchmark = Benchmark.model_validate({"name": "b", "lm_eval": task, "validation": 0, "test": 10**6})
    ready = prepare(benchmark, "test", Sampling(batch_size=batch))
    assert ready.sampling is not None
    records = Evaluator(model).evaluate(None, 1.0, {"b": ready.items}, {"b": ready.scorer}, {"b": ready.sampling})
    return {record.item: (record.score, record.output) for record in records}


class Clock:
    """Adds up the time that our sampler takes to write answers."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, original: Callable[..., object]) -> Callable[..., object]:
        def timed(*arguments: object) -> object:
            begin = time.perf_counter()
            try:
                return original(*arguments)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="micro:student")
    parser.add_argument("--task", default="prefdelta_micro_ledger")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "lm_eval_overhead.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load(ModelRef(path=options.model))
    clock = Clock()
    TransformersSampler.sample = clock.wrap(TransformersSampler.sample)  # type: ignore[method-assign]

    theirs = through_lm_eval(model, options.task, options.batch)  # warm-up, and the parity check
    ours = through_us(model, options.task, options.batch)
    same = sum(ours[item] == theirs[item] for item in theirs)
    times: dict[str, list[float]] = {"lm_eval": [], "prefdelta": [], "of it sampling": []}
    for _ in range(options.rounds):
        begin = time.perf_counter()
        through_lm_eval(model, options.task, options.batch)
        times["lm_eval"].append(time.perf_counter() - begin)
        clock.seconds, begin = 0.0, time.perf_counter()
        through_us(model, options.task, options.batch)
        times["prefdelta"].append(time.perf_counter() - begin)
        times["of it sampling"].append(clock.seconds)
    middle = {name: statistics.median(values) for name, values in times.items()}
    overhead = 100 * (middle["prefdelta"] / middle["lm_eval"] - 1)
    beside = 100 * (middle["prefdelta"] - middle["of it sampling"]) / middle["prefdelta"]
    cpu = next(
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    rows = "\n".join(
        f"| {name} | {middle[name]:.2f} | {min(values):.2f} to {max(values):.2f} |" for name, values in times.items()
    )
    options.output.write_text(
        f"""# An lm_eval task through prefdelta and through lm_eval

`python benchmarks/lm_eval_overhead.py --rounds {options.rounds}`: {len(theirs)} questions of `{options.task}`,
`{options.model}`, greedy, batches of {options.batch}, loading the task included, loading the model not.
{cpu}, {options.threads} thread(s), shared machine; torch {torch.__version__}, lm_eval {metadata.version("lm_eval")},
transformers {metadata.version("transformers")}. The two take turns in one process; {options.rounds} rounds.

| through | median seconds | range |
|---|---|---|
{rows}

* Items with the same answer, letter for letter, and the same score: **{same} of {len(theirs)}**.
* Against lm_eval: **{overhead:+.1f} %** of its time (goal: less than {GOAL:g} % more;
  {"reached" if overhead < GOAL else "not reached"}). The two decode by different loops: lm_eval by `generate`, which
  computes every row of a batch until the longest is done; ours drops finished rows.
* Of our own time, {beside:.1f} % is not decoding: loading the task, prompts, scoring by lm_eval, records. The model
  has 0.2 million parameters; with one of real size decoding grows, and this does not.
""",
        encoding="utf-8",
    )
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
