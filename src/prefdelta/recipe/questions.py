"""Where questions come from: training prompts and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from prefdelta.core.config import Config, Named
from prefdelta.core.folder_names import PlainName
from prefdelta.core.records import Message

LM_EVAL = "lm_eval:"
"""What the source of an lm_eval task's questions begins with."""

REGISTERED = "benchmark:"
"""What the source of a registered benchmark's questions begins with."""

PAIRS = "pairs:"
"""What the source of preference pairs begins with."""


def _as_lm_eval(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


def _as_pairs(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


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

    ``source`` is ``micro:NAME``, a ``.jsonl`` file of items, a published file of MMLU-Pro, GSM8K or AlpacaEval (told by
    its content where there is no ``format``), or a data set on the Hugging Face Hub (``format: huggingface``, with
    ``question`` and ``answer`` naming its columns). ``choices`` names a column that lists the options, or one column
    per option, among them ``answer``. Without a ``split`` a file is taken whole, and of a data set its ``train`` split.
    ``flashrag:NAME`` is a search benchmark of ``RUC-NLPIR/FlashRAG_datasets`` on the Hub.
    Questions whose whole prompt has more than ``max_characters`` are left out: a student's context may be short.
    """

    source: str
    format: Literal["items", "mmlu-pro", "gsm8k-solutions", "alpaca-eval", "huggingface"] | None = None
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


class HeldOutPairs(Config):
    """Preference pairs that nothing was trained on. A plain string in a recipe is their ``path``, a file of pairs.

    In a domain, ``held_out`` names one of its deltas instead: the pairs of that delta on the prompts which the domain's
    ``held_out`` sets aside. ``beta`` is that of the loss; responses are cut so that they have at most ``max_length``
    tokens with the prompt, by default the student's context.
    """

    path: str | None = None
    held_out: PlainName | None = None
    beta: float = Field(default=0.1, gt=0)
    max_length: int | None = Field(default=None, gt=1)

    @model_validator(mode="after")
    def _pairs_have_one_origin(self) -> HeldOutPairs:
        if (self.path is None) == (self.held_out is None):
            raise ValueError("give either the path of a file of pairs, or the delta whose pairs are held_out")
        return self


class Benchmark(Config):
    """One evaluation task. Validation chooses λ and method; only ``test`` items are reported.

    It is made of ``questions`` and a ``scorer``, or it is a task of lm_eval (``lm_eval: NAME``), or a ``benchmark`` of
    another package, by its name or with options; ``scorer`` is ``exact-match`` or the benchmark's own. Or it is a set
    of preference ``pairs``, which are not answered: what is measured is which answer the model prefers.
    The two sets never share an item: they are different splits of the source, or, where only one split exists,
    ``validation`` items are drawn from it first and ``test`` items from the rest.
    """

    name: PlainName
    questions: Questions
    lm_eval: Annotated[LmEval | None, BeforeValidator(_as_lm_eval)] = None
    benchmark: Named | None = None
    pairs: Annotated[HeldOutPairs | None, BeforeValidator(_as_pairs)] = None
    scorer: Named | None = None
    validation_split: str | None = None
    validation: int = Field(default=200, ge=0)
    test: int = Field(default=500, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _what_is_made_elsewhere_has_its_own_questions(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        kinds = {
            "lm_eval": (("task",), LM_EVAL, ("benchmark", "pairs", "scorer", "validation_split")),
            "benchmark": (("name",), REGISTERED, ("lm_eval", "pairs", "validation_split")),
            "pairs": (("path", "held_out"), PAIRS, ("scorer", "validation_split")),
        }
        for kind, (keys, prefix, others) in kinds.items():
            made = values.get(kind)
            if made is None:
                continue
            fields = made if isinstance(made, Mapping | str) else dict(made)
            names = [fields] if isinstance(fields, str) else [fields.get(key) for key in keys]
            name = next(filter(None, names), None)
            source = f"{prefix}{name}"
            given = values.get("questions", {"source": source})
            given = given if isinstance(given, Mapping) else given.model_dump(exclude_defaults=True)
            excluded = [other for other in others if values.get(other) is not None]
            if given.get("source") != source or excluded:
                raise ValueError(
                    f"{excluded[0] if excluded else 'questions'} and {kind} exclude each other; leave one out"
                )
            return {**values, "questions": given}
        return values


def refuse_held_out(benchmarks: Iterable[Benchmark], where: str) -> None:
    """Refuse benchmarks of pairs that a delta holds out, where there is no delta.

    Raises:
        ValueError: there is one.
    """
    for benchmark in benchmarks:
        if benchmark.pairs is not None and benchmark.pairs.held_out is not None:
            raise ValueError(
                f"benchmark {benchmark.name!r} is made of the pairs that a delta holds out, which only a domain's "
                f"benchmarks can be, not {where}; give the path of a file of pairs"
            )
