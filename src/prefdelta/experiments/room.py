"""Questions that leave no room for an answer, or too few to test on, told before anything is made.

A plan must take seconds whatever a recipe asks for, so only the first questions of each source are looked at, and no
file that is large. The rest is looked at when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prefdelta.agent import protocol_of
from prefdelta.core.chat import prompts_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import exists, expanded
from prefdelta.core.model_files import local_folder
from prefdelta.core.records import Item, digest
from prefdelta.core.reference import ModelRef
from prefdelta.evaluation.benchmarks import benchmark_items, benchmark_pairs
from prefdelta.generation.prompts import draw_prompts
from prefdelta.recipe import BaseRecipe, Benchmark, Domain, Prompts, Questions, Recipe, Search
from prefdelta.recipe.fusion import FusionRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEAST_TESTED = 2
"""Test items without which there is no interval."""

_MOST = 1000
"""Questions of a source that are looked at."""

_LARGE = 64 * 2**20
"""Bytes of a file of questions that is not read for a plan."""


def check_room(recipe: BaseRecipe) -> None:
    """Refuse questions that a training or the student's context cannot hold, and benchmarks with too few of them.

    Looks at students and questions of this machine only: what lies on a hub is looked at when it is used.

    Raises:
        PrefdeltaError: no prompt leaves room for an answer within ``max_length``, the student cannot read a prompt or a
            benchmark's question to its end, or a benchmark's file cannot be read or leaves fewer than two test items;
            the message begins with the key's dotted path.
    """
    if not isinstance(recipe, Recipe | FusionRecipe):
        return
    student = recipe.student
    if student.format == "huggingface" and local_folder(student) is not None:
        counter = _Counter(student)
        for where, asked, longest in _asked(recipe):
            counter.check(where, asked.prompts, asked.search, asked.benchmarks, longest)
    for where, asked, _ in _asked(recipe):
        for place, benchmark in enumerate(asked.benchmarks):
            left = _left(benchmark)
            if left is not None and left < LEAST_TESTED:
                raise PrefdeltaError(
                    f"{where}benchmarks.{place}: {benchmark.questions.source} leaves {left} item (or prompt of pairs) "
                    f"to test on, and an interval needs {LEAST_TESTED}; lower validation, or give more questions."
                )


def _asked(recipe: Recipe | FusionRecipe) -> Iterator[tuple[str, Domain | FusionRecipe, int]]:
    """What has prompts and benchmarks, each with what its keys begin with and the longest row that it trains on."""
    if isinstance(recipe, Recipe):
        for name, domain in recipe.domains.items():
            yield f"domains.{name}.", domain, domain.training.max_length
    else:
        trainings = (recipe.sft, *(method.training for method in recipe.methods.values()))
        yield "", recipe, max(training.max_length for training in trainings)


def _left(benchmark: Benchmark) -> int | None:
    """How many test items, or prompts of pairs, there are; ``None`` if files here do not tell."""
    if benchmark.pairs is not None:
        if benchmark.pairs.path is None:
            return None
        # Pairs on one prompt stand and fall together.
        return len({digest(pair.prompt) for pair in benchmark_pairs(benchmark, "test", expanded(benchmark.pairs.path))})
    if benchmark.lm_eval is not None or benchmark.benchmark is not None or not _is_here(benchmark.questions):
        return None
    return len(benchmark_items(benchmark.model_copy(update={"test": LEAST_TESTED}), "test"))


def check_questions(where: str, model: ModelRef, items: Sequence[Item], search: Search | None) -> None:
    """Refuse questions that a model of this machine cannot read to their end, before it answers any.

    Raises:
        PrefdeltaError: there is one; the message begins with ``where``.
    """
    if model.format == "huggingface" and local_folder(model) is not None:
        _Counter(model).lengths(where, items, search)


class _Counter:
    """Counts tokens as the student reads them."""

    def __init__(self, student: ModelRef) -> None:
        from prefdelta.core.models import context_length, load_tokenizer  # here, as a server's model needs no torch

        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(student)
        self._context = min(filter(None, (context_length(student), student.vllm.max_model_len)), default=None)
        self._student = student

    def check(
        self, where: str, prompts: Prompts, search: Search | None, benchmarks: Sequence[Benchmark], max_length: int
    ) -> None:
        if _is_here(prompts):
            first = {"count": min(prompts.count, _MOST), "seed": 0}
            lengths = self.lengths(f"{where}prompts", draw_prompts(prompts.model_copy(update=first)), search)
            if min(lengths) >= max_length:
                raise PrefdeltaError(
                    f"{where}prompts: the shortest of {len(lengths)} prompts has {min(lengths)} tokens and leaves no "
                    f"room for an answer within training.max_length {max_length}; raise it, or ask shorter questions."
                )
        for place, benchmark in enumerate(benchmarks):
            if benchmark.lm_eval is None and benchmark.pairs is None and _is_here(benchmark.questions):
                few = {"validation": min(benchmark.validation, _MOST), "test": min(benchmark.test, _MOST)}
                for split in ("validation", "test"):
                    items = benchmark_items(benchmark.model_copy(update=few), split)
                    self.lengths(f"{where}benchmarks.{place}", items, search)

    def lengths(self, where: str, items: Sequence[Item], search: Search | None) -> list[int]:
        """Tokens of each question.

        Raises:
            PrefdeltaError: one fills the context.
        """
        dressed = [protocol_of(search.protocol).dressed(item) for item in items] if search else items
        conversations = [item.messages for item in dressed]
        lengths = [len(ids) for ids in prompts_ids(self._tokenizer, conversations, self._student.thinking)]
        for item, length in zip(items, lengths, strict=True):
            if self._context is not None and length >= self._context and not (search and search.window):
                raise PrefdeltaError(
                    f"{where}: the question {item.id!r} has {length} tokens, and {self._student.path} reads at most "
                    f"{self._context}; leave it out (max_characters does)."
                )
        return lengths


def _is_here(questions: Questions) -> bool:
    """Whether questions lie on this machine, in a file that is not large."""
    if questions.source.startswith("micro:"):
        return True
    if questions.format == "huggingface" or not exists(questions.source):
        return False
    return expanded(questions.source).stat().st_size <= _LARGE
