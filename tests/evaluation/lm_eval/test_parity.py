"""The same model and task through this package and through lm_eval itself."""

from __future__ import annotations

from typing import Any

import pytest

lm_eval = pytest.importorskip("lm_eval")
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from prefdelta.core.models import LoadedModel, load  # noqa: E402
from prefdelta.evaluation.benchmarks import prepare  # noqa: E402
from prefdelta.evaluation.evaluator import Evaluator  # noqa: E402
from prefdelta.evaluation.lm_eval.loading import own_tasks, quiet  # noqa: E402
from prefdelta.recipe import Benchmark, ModelRef, Sampling  # noqa: E402

CASES = [
    ("student", "prefdelta_micro_ledger"),
    ("student", "prefdelta_micro_story"),
    ("elm-weaker", "prefdelta_micro_chain"),
]
COUNT = 60


def direct(model: LoadedModel, task: str, documents: list[int]) -> dict[str, dict[str, Any]]:
    """lm_eval's own samples, by the item id that we would give them."""
    with quiet():
        results = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=32),
            tasks=[task],
            task_manager=TaskManager(include_path=str(own_tasks()), include_defaults=False),
            samples={task: sorted(documents)},
            apply_chat_template=True,
            bootstrap_iters=0,
        )
    return {f"{task}/{row['doc_id']}-{row['doc_hash'][:8]}": row for row in results["samples"][task]}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_item_is_the_same(name: str, task: str) -> None:
    model = load(ModelRef(path=f"micro:{name}"))
    benchmark = Benchmark.model_validate({"name": "b", "lm_eval": task, "validation": 0, "test": COUNT})
    ready = prepare(benchmark, "test", Sampling(batch_size=16))
    assert ready.sampling is not None
    records = Evaluator(model).evaluate(None, 1.0, {"b": ready.items}, {"b": ready.scorer}, {"b": ready.sampling})
    documents = [int(item.id.partition("/")[2].partition("-")[0]) for item in ready.items]
    theirs = direct(model, task, documents)
    assert len(records) == COUNT
    for record in records:
        other = theirs[record.item]
        assert record.output == other["resps"][0][0]
        assert record.score == other["exact_match"]
        assert (record.parsed or "[invalid]") == other["filtered_resps"][0]
    if (name, task) == CASES[0]:
        assert 0 < sum(record.score for record in records) < COUNT
