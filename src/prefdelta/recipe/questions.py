"""Where questions come from: training prompts and benchmarks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.recipe.config import NAME, Config
from prefdelta.records import Message


class Questions(Config):
    """Where questions come from; used for training prompts and for benchmarks alike.

    ``source`` is ``micro:NAME``, a ``.jsonl`` file of items, an MMLU-Pro output file (``format: mmlu-pro``), or a
    data set on the Hugging Face Hub (``format: huggingface``, with ``question`` and ``answer`` naming its columns).
    ``choices`` names a column that lists the options, or one column per option, among them ``answer``. Without a
    ``split`` a file is taken whole, and of a data set its ``train`` split.
    Questions whose whole prompt has more than ``max_characters`` are left out: a student's context may be short.
    """

    source: str
    format: Literal["items", "mmlu-pro", "huggingface"] = "items"
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


class Prompts(Questions):
    """Training prompts: ``count`` questions, drawn without replacement with ``seed`` where there are more."""

    count: int = Field(gt=0)
    seed: int = 0


class Benchmark(Config):
    """One evaluation task. Validation chooses λ and method; only ``test`` items are reported.

    The two sets never share an item: they are different splits of the source, or, where only one split exists,
    ``validation`` items are drawn from it first and ``test`` items from the rest.
    """

    name: str = Field(pattern=NAME)
    questions: Questions
    scorer: Literal["exact-match", "final-number", "choice", "token-f1"] = "exact-match"
    validation_split: str | None = None
    validation: int = Field(default=200, ge=0)
    test: int = Field(default=500, gt=0)
