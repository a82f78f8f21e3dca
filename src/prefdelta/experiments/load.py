"""How much a unit asks of a model, counted in tokens from the recipe alone, for the plan's hours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefdelta.agent.protocols import resolved
from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import Benchmark, ModelRef, Questions, Sampling, Search, Training

_CHARACTERS = 4
"""Of a token of English, roughly."""
_QUESTION = 100
"""Assumed tokens of a question, which a plan does not fetch; what the recipe puts around it is counted."""
_WORD = 1.4
"""Tokens of an English word, roughly."""
_PASSAGE = 200
"""Assumed tokens of a passage that nothing cuts."""
_LM_EVAL = 2048
"""Tokens that an answer to a task of lm_eval may have, where the recipe does not say: as most of ours."""


@dataclass(frozen=True)
class Text:
    """The tokens of one answer and of what leads to it.

    Attributes:
        asked: of the prompt.
        shown: of all that searches may show, at most.
        written: that the model may write, at most, in all of its turns.
    """

    asked: float
    shown: float = 0
    written: float = 0

    def read(self, filled: float) -> float:
        """Tokens that the model did not write, where ``filled`` of the limits is used."""
        return self.asked + filled * self.shown

    def length(self, filled: float, longest: int | None) -> float:
        """Tokens of the whole, cut at ``longest``."""
        tokens = self.read(filled) + filled * self.written
        return tokens if longest is None else min(tokens, longest)


@dataclass(frozen=True)
class Sampled:
    """Answers that a model writes, token by token; ``batch`` of them at once where transformers draws them."""

    model: ModelRef
    answers: int
    text: Text
    batch: int


@dataclass(frozen=True)
class Passed:
    """Rows that go through a model whole.

    Attributes:
        model: the model.
        rows: how many.
        text: of each.
        longest: where they are cut.
        passes: how many times each token is multiplied with all weights: 1 where it is read. A backward pass to the
            activations costs another; the frozen base needs no gradients of its weights.
        trained: whether it is a training.
    """

    model: ModelRef
    rows: float
    text: Text
    longest: int | None
    passes: float
    trained: bool = False


Load = Sampled | Passed


def share(load: Load, count: int) -> Load:
    """One of ``count`` equal shares of a load."""
    if isinstance(load, Passed):
        return replace(load, rows=load.rows / count)
    return replace(load, answers=math.ceil(load.answers / count))


def text_of(questions: Questions, sampling: Sampling, search: Search | None) -> Text:
    """The size of an answer to one of the questions."""
    around = [questions.system or "", questions.template, *(message["content"] for message in questions.examples)]
    asked = sum(map(len, around)) / _CHARACTERS + _QUESTION
    if search is None:
        return Text(asked, 0, sampling.max_new_tokens)
    search = resolved(search)
    passage = search.passage_tokens or (search.max_words and _WORD * search.max_words) or _PASSAGE
    shown = min(search.top_k * passage, search.observation_tokens or float("inf"))
    turn = min(sampling.max_new_tokens, search.turn_tokens or sampling.max_new_tokens)
    # Every turn writes after all before it, whose keys and values an engine keeps: nothing is read twice.
    return Text(asked, search.max_turns * shown, (search.max_turns + 1) * turn)


def evaluated(
    model: ModelRef,
    asked: Sequence[tuple[Benchmark, int]],
    sampling: Sampling,
    search: Search | None,
    times: int,
) -> tuple[Load, ...]:
    """A model on ``(benchmark, items)`` s, each ``times`` over."""
    found: list[Load] = []
    for benchmark, items in asked:
        count = times * items
        if benchmark.pairs is not None:
            text = Text(_QUESTION, 0, sampling.max_new_tokens)
            found.append(Passed(model, 2 * count, text, benchmark.pairs.max_length, 1))
        elif benchmark.lm_eval is not None:
            limit = benchmark.lm_eval.generation.get("max_gen_toks", _LM_EVAL)
            if not isinstance(limit, int | float):
                raise PrefdeltaError(f"benchmark {benchmark.name!r}: generation.max_gen_toks is a number, not {limit}.")
            found.append(Sampled(model, count, Text(_QUESTION, 0, limit), sampling.batch_size))
        else:
            found.append(Sampled(model, count, text_of(benchmark.questions, sampling, search), sampling.batch_size))
    return tuple(load for load in found if (load.answers if isinstance(load, Sampled) else load.rows))


def trained(model: ModelRef, training: Training, rows: int, text: Text) -> Passed:
    """One training on at most ``rows`` rows, whose responses are like ``text``."""
    from prefdelta.training.objectives import loss_of  # here, as units without a training need no torch

    loss = loss_of(training)
    passes = 3.0 if training.gradient_checkpointing else 2.0
    reference = 1.0 if loss.needs_reference else 0.0
    return Passed(
        model,
        rows * len(loss.names),
        text,
        training.max_length,
        training.epochs * passes + reference,
        trained=True,
    )
