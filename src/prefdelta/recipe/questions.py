"""Where questions come from: training prompts and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from prefdelta.core.config import Config, Named
from prefdelta.core.folder_names import PlainName
from prefdelta.core.records import Message

LM_EVAL = "lm_eval:"
"""What the source of an lm_eval task's questions begins with."""

REGISTERED = "benchmark:"
"""What the source of a registered benchmark's questions begins with."""

PAIRS = "pairs:"
"""What the source of preference pairs begins with."""


def _spoken(message: Message) -> Message:
    if message.keys() != {"role", "content"}:
        raise ValueError("a message is a role and a content")
    return message


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

    ``flashrag:NAME`` is a search benchmark of ``RUC-NLPIR/FlashRAG_datasets`` on the Hub.
    """

    source: str = Field(
        description=(
            "`micro:NAME`, `flashrag:NAME`, a `.jsonl` file of items, a published file of MMLU-Pro, GSM8K or "
            "AlpacaEval, or a data set on the Hub or in a folder or file."
        )
    )
    format: Literal["items", "mmlu-pro", "gsm8k-solutions", "alpaca-eval", "huggingface"] | None = Field(
        default=None,
        description=(
            "How the source is read; left out, files are told by their content. A data set needs `huggingface`."
        ),
    )
    config: str | None = Field(default=None, description="The data set's configuration on the Hub, such as `main`.")
    split: str | None = Field(
        default=None,
        description=(
            "The split: of a data set by default `train`; a single file is taken whole, and with a split named "
            "its items fall into `train` (60 %), `validation` (20 %) and `test` (20 %) by a hash of their ids, so that "
            "the three never share one."
        ),
    )
    question: str = Field(default="question", description="Of a data set: the column with the question.")
    answer: str | None = Field(
        default=None, description="Of a data set: the column with the known answer, or a list of them."
    )
    aliases: str | None = Field(default=None, description="Of a data set: a column with further right answers.")
    choices: str | tuple[str, ...] | None = Field(
        default=None,
        description=(
            "Of a data set: the column that lists the options of a multiple-choice question, or a list of columns with "
            "one option each, of which `answer` names the right one. Options are shown as `A. …`, `B. …`, in an order "
            "fixed by a hash of the question, and the known answer becomes the letter."
        ),
    )
    revision: str | None = Field(default=None, description="A commit of the data set on the Hub.")
    system: str | None = Field(default=None, description="A system prompt, in the place of an item's own.")
    examples: tuple[Annotated[Message, AfterValidator(_spoken)], ...] = Field(
        default=(),
        description=(
            "Messages between the system prompt and the question: worked examples, each message a mapping with `role` "
            "(`user` or `assistant`) and `content`."
        ),
    )
    template: str = Field(default="{question}", description="The user's message; `{question}` stands for the question.")
    max_characters: int | None = Field(
        default=None,
        gt=0,
        description="Leave out questions whose whole prompt is longer; for students with a short context.",
    )

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

    count: int = Field(gt=0, description="How many questions are drawn, without replacement; there must be as many.")
    seed: int = Field(default=0, description="Of the draw; a larger draw with the same seed holds the smaller one.")


class LmEval(Config):
    """A task of lm_eval. A plain string in a recipe is its ``task``; those of our own begin with ``prefdelta_``."""

    task: str = Field(description="The name of a task or group in lm-eval; ours begin with `prefdelta_`.")
    data: str | None = Field(default=None, description="The path of a local copy of its data, for our own tasks.")
    include_path: str | None = Field(default=None, description="A folder with task files of your own.")
    num_fewshot: int | None = Field(
        default=None, ge=0, description="Worked examples before each question; left out, the task's."
    )
    generation: dict[str, int | float | bool | list[str]] = Field(
        default_factory=dict,
        description=(
            "Changes to the task's `generation_kwargs`: `max_gen_toks`, `do_sample`, `temperature`, `top_p`, "
            "`top_k`, `until`."
        ),
    )
    metric: str | None = Field(default=None, description="Which metric is the score; left out, the task's first.")
    filter: str | None = Field(
        default=None, description="Which filter's answers the score is computed from; left out, the task's first."
    )
    seed: int = Field(default=1234, description="Of the draw of worked examples.")


class HeldOutPairs(Config):
    """Preference pairs that nothing was trained on. A plain string in a recipe is their ``path``, a file of pairs."""

    path: str | None = Field(
        default=None, description="A file of pairs, as `prefdelta pair` and `prefdelta import` write them."
    )
    held_out: PlainName | None = Field(
        default=None,
        description=(
            "In place of `path`, a delta of the same domain: its pairs on the prompts that the domain's "
            "`held_out` sets aside."
        ),
    )
    beta: float = Field(default=0.1, gt=0, description="β of the loss that is told beside the score.")
    max_length: int | None = Field(
        default=None,
        gt=1,
        description=(
            "Tokens of prompt and response together, longer responses are cut; left out, the student's context."
        ),
    )

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

    name: PlainName = Field(description="What the benchmark is called in tables.")
    questions: Questions = Field(
        description="Questions with known answers; `lm_eval`, `benchmark` and `pairs` take their place."
    )
    lm_eval: Annotated[LmEval | None, BeforeValidator(_as_lm_eval)] = Field(
        default=None, description="A task of lm-eval, by its name or with settings."
    )
    benchmark: Named | None = Field(
        default=None,
        description=(
            "A registered benchmark by its name or with options: `instructions` (what a rule can check; options "
            "`count` and `seed`), or one of another package."
        ),
    )
    pairs: Annotated[HeldOutPairs | None, BeforeValidator(_as_pairs)] = Field(
        default=None,
        description=(
            "Preference pairs, a file or settings: nothing is answered, the score says how often the model "
            "prefers the chosen answer."
        ),
    )
    scorer: Named | None = Field(
        default=None,
        description=(
            "How an answer is compared with the known ones. `exact-match`: the text in the last `<answer>…</answer>` "
            "equals one; `token-f1`: the same text, by the overlap of words (SQuAD); `final-number`: the number of the "
            "answer; `choice`: its letter. Left out, `exact-match` or the benchmark's own."
        ),
    )
    validation_split: str | None = Field(
        default=None,
        description="Where validation items come from; left out, other items of the split of the test items.",
    )
    validation: int = Field(
        default=200,
        ge=0,
        description=(
            "Items that choose scale, merge and GAM's reference, with or without their labels; 0: this benchmark has "
            "no say."
        ),
    )
    test: int = Field(default=500, gt=0, description="Items that are reported.")

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
