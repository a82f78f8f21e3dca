"""Where questions come from: training prompts and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from prefdelta.recipe.config import NAME, Config
from prefdelta.records import Message

LM_EVAL = "lm_eval:"
"""What the source of an lm_eval task's questions begins with."""


def _as_lm_eval(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


_FLASHRAG = "flashrag:"
_FLASHRAG_SPLITS: Mapping[str, str] = MappingProxyType(
    {
        "hotpotqa": "dev",
        "2wikimultihopqa": "dev",
        "musique": "dev",
        "bamboogle": "test",
        "nq": "test",
        "triviaqa": "test",
        "popqa": "test",
    }
)
"""The split of each search benchmark that results are reported on."""


class Questions(Config):
    """Where questions come from; used for training prompts and for benchmarks alike.

    ``source`` is ``micro:NAME``, a ``.jsonl`` file of items, an MMLU-Pro output file (``format: mmlu-pro``), or a
    data set on the Hugging Face Hub (``format: huggingface``, with ``question`` and ``answer`` naming its columns).
    ``choices`` names a column that lists the options, or one column per option, among them ``answer``. Without a
    ``split`` a file is taken whole, and of a data set its ``train`` split.
    ``flashrag:NAME`` is a search benchmark of ``RUC-NLPIR/FlashRAG_datasets`` on the Hub.
    Questions whose whole prompt has more than ``max_characters`` are left out: a student's context may be short.
    """

    source: str
    format: Literal["items", "mmlu-pro", "gsm8k-solutions", "alpaca-eval", "huggingface"] = "items"
    config: str | None = None
    split: str | None = None
    question: str = "question"
    answer: str | None = None
    aliases: str | None = None
    choices: str | tuple[str, ...] | None = None
    revision: str | None = None
    system: str | None = None
    examples: tuple[Message, ...] = ()
    template: str = "{question}"
    max_characters: int | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _a_search_benchmark_has_a_name(cls, values: Any) -> Any:
        source = values.get("source") if isinstance(values, Mapping) else None
        if not isinstance(source, str) or not source.startswith(_FLASHRAG):
            return values
        name = source.removeprefix(_FLASHRAG)
        if name not in _FLASHRAG_SPLITS:
            raise ValueError(f"no search benchmark is called {name!r}; there are {', '.join(_FLASHRAG_SPLITS)}")
        meant = {
            "source": "RUC-NLPIR/FlashRAG_datasets",
            "format": "huggingface",
            "config": name,
            "split": _FLASHRAG_SPLITS[name],
            "answer": "golden_answers",
        }
        return {**meant, **{key: value for key, value in values.items() if key != "source"}}


class Prompts(Questions):
    """Training prompts: ``count`` questions, drawn without replacement with ``seed`` where there are more."""

    count: int = Field(gt=0)
    seed: int = 0


class LmEval(Config):
    """A task of lm_eval. A plain string in a recipe is its ``task``; those of our own begin with ``prefdelta_``.

    ``data`` is the path of a local copy for our own tasks. ``generation`` changes the task's ``generation_kwargs``
    (``max_gen_toks``, ``temperature``, ...). ``metric`` and ``filter`` choose what counts, where a task has several.
    """

    task: str
    data: str | None = None
    include_path: str | None = None
    num_fewshot: int | None = Field(default=None, ge=0)
    generation: dict[str, int | float | bool | list[str]] = Field(default_factory=dict)
    metric: str | None = None
    filter: str | None = None
    seed: int = 1234


class Benchmark(Config):
    """One evaluation task. Validation chooses λ and method; only ``test`` items are reported.

    It is made of ``questions`` and a ``scorer``, or it is a task of lm_eval (``lm_eval: NAME``).
    The two sets never share an item: they are different splits of the source, or, where only one split exists,
    ``validation`` items are drawn from it first and ``test`` items from the rest.
    """

    name: str = Field(pattern=NAME)
    questions: Questions
    lm_eval: Annotated[LmEval | None, BeforeValidator(_as_lm_eval)] = None
    scorer: Literal["exact-match", "final-number", "choice", "token-f1"] = "exact-match"
    validation_split: str | None = None
    validation: int = Field(default=200, ge=0)
    test: int = Field(default=500, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _an_lm_eval_task_has_its_own_questions(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("lm_eval") is None:
            return values
        task = _as_lm_eval(values["lm_eval"])
        name = task.get("task") if isinstance(task, Mapping) else task.task
        stands_for = {"source": f"{LM_EVAL}{name}"}
        given = values.get("questions", stands_for)
        given = given if isinstance(given, Mapping) else given.model_dump(exclude_defaults=True)
        others = [key for key in ("scorer", "validation_split") if values.get(key) not in (None, "exact-match")]
        if given.get("source") != stands_for["source"] or others:
            raise ValueError(f"{others[0] if others else 'questions'} and lm_eval exclude each other; leave one out")
        return {**values, "questions": given}
