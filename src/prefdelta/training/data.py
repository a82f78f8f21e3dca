"""Preference pairs, triples and demonstrations as token rows, and the collator: rows as padded tensors."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict, cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from prefdelta.core.chat import completion_ids, prompt_ids
from prefdelta.core.errors import PrefdeltaError, told_of
from prefdelta.core.model_files import local_folder
from prefdelta.core.models import context_length, load_tokenizer
from prefdelta.core.records import Example, Pair, Sample
from prefdelta.core.thoughts import stray_thought
from prefdelta.recipe import ModelRef, Training
from prefdelta.training.plan import check_learns


@dataclass(frozen=True)
class Response:
    """Token ids of one response, and for each whether the model wrote it (1) or read it (0)."""

    ids: tuple[int, ...]
    own: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One example as tokens; a sequence is ``prompt`` followed by one response.

    ``responses`` are chosen, rejected; or source, target, rejected; or the one to imitate.
    """

    prompt: tuple[int, ...]
    responses: tuple[Response, ...]

    @property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Everything in the row, as plain sequences."""
        return (self.prompt, *(part for response in self.responses for part in (response.ids, response.own)))

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.prompt) + max(len(response.ids) for response in self.responses)


@dataclass(frozen=True)
class Rows:
    """All rows that can be trained on, and what happened to the others.

    ``dropped`` counts examples by reason: ``long_prompt`` (the prompt alone fills ``max_length``), ``empty`` (a
    response without a token of the model's own), ``identical`` (within ``max_length``, a preferred response does not
    differ from the rejected one), ``thought`` (a response holds a thought, though thinking is off).
    ``truncated`` counts responses of kept rows that were cut. ``kept`` are the places of the rows' examples.
    """

    rows: tuple[Row, ...]
    dropped: Mapping[str, int]
    truncated: int
    kept: tuple[int, ...]


def token_digest(sequences: Iterable[Sequence[int]]) -> str:
    """SHA-256 (hex) of token sequences; much quicker on a large data set than a digest of its JSON."""
    state = hashlib.sha256()
    for sequence in sequences:
        state.update(array("q", (len(sequence), *sequence)).tobytes())
    return state.hexdigest()


def make_rows(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, thinking: bool, max_length: int
) -> Rows:
    """Tokenise examples, cut responses at the end to ``max_length`` tokens in all, and drop what teaches nothing.

    Raises:
        PrefdeltaError: examples of several kinds, a sample's thinking mode is not the student's, or none is left.
    """
    if len({type(example) for example in examples}) > 1:
        raise PrefdeltaError("the examples are of several kinds; train on pairs, triples or demonstrations alone.")
    rows: list[Row] = []
    kept: list[int] = []
    dropped = {"empty": 0, "identical": 0, "long_prompt": 0}
    truncated = shortest = 0
    for place, example in enumerate(examples):
        for sample in example.responses:
            _check_thinking(example, sample, thinking)
        if any(map(stray_thought, example.responses)):
            dropped["thought"] = dropped.get("thought", 0) + 1
            continue
        prompt = tuple(prompt_ids(tokenizer, example.prompt, thinking))
        room = max_length - len(prompt)
        if room <= 0:
            dropped["long_prompt"] += 1
            shortest = min(shortest or len(prompt), len(prompt))
            continue
        whole = [completion_ids(tokenizer, sample) for sample in example.responses]
        responses = tuple(Response(tuple(ids[:room]), tuple(own[:room])) for ids, own in whole)
        if not all(any(response.own) for response in responses):
            dropped["empty"] += 1
        elif responses[-1] in responses[:-1]:
            dropped["identical"] += 1
        else:
            rows.append(Row(prompt, responses))
            kept.append(place)
            truncated += sum(len(ids) > room for ids, _ in whole)
    if not rows:
        raise PrefdeltaError(
            f"none of {len(examples)} examples can be trained on: {dropped_reasons(dropped, max_length)}"
            f"{f' (the shortest has {shortest} tokens)' if shortest else ''}; raise training.max_length or look at the "
            "examples."
        )
    return Rows(tuple(rows), dropped, truncated, tuple(kept))


def training_rows(
    examples: Sequence[Example], held_out: Sequence[Example], student: ModelRef, training: Training
) -> tuple[Rows, tuple[Row, ...]]:
    """The rows to train on, and those of the pairs held out of the training, as the student reads them.

    Raises:
        PrefdeltaError: as :func:`make_rows`; too few rows to learn from, or longer ones than the student reads, as far
            as its configuration tells.
    """
    make = partial(
        make_rows, tokenizer=load_tokenizer(student), thinking=student.thinking, max_length=training.max_length
    )
    data = make(examples)
    check_learns(len(data.rows), training)
    with told_of("held-out pairs"):
        aside = make(held_out).rows if held_out else ()
    check_context([*data.rows, *aside], student)
    return data, aside


def dropped_reasons(dropped: Mapping[str, int], max_length: int) -> str:
    """Why examples were dropped, as :class:`Rows` counts them; empty if none was."""
    reasons = {
        "long_prompt": f"with a prompt that fills max_length ({max_length} tokens) by itself",
        "empty": "with a response without a token of the model's own",
        "identical": f"whose responses do not differ within {max_length} tokens",
        "thought": "with a thought, though thinking is off",
    }
    return ", ".join(f"{dropped[reason]} {why}" for reason, why in reasons.items() if dropped.get(reason))


def check_context(rows: Sequence[Row], student: ModelRef) -> None:
    """Refuse rows that the student cannot read to their end, as far as its configuration tells, before it is loaded.

    Raises:
        PrefdeltaError: there is one.
    """
    if student.format != "huggingface" or local_folder(student) is None:
        return
    context, longest = context_length(student), max(row.length for row in rows)
    if context is not None and longest > context:
        raise PrefdeltaError(
            f"training.max_length: the longest example has {longest} tokens, and {student.path} reads at most "
            f"{context}; lower max_length to {context}."
        )


class Batch(TypedDict, total=False):
    """Sequences of ``n`` rows with ``k`` responses each, stacked: all first responses, then all second ones, ...

    ``input_ids``, ``own`` and ``prompt`` are ``(k n, length)``; ``own`` marks the tokens that the model wrote,
    ``prompt`` those of the prompt (but the first, which nothing predicts). ``reference`` is ``(k, n)``.
    """

    input_ids: Tensor
    own: Tensor
    prompt: Tensor
    reference: Tensor


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return cast(Batch, {name: tensor.to(device) for name, tensor in batch.items()})  # type: ignore[attr-defined]


def collate(rows: Sequence[Row], *, positions: Sequence[int]) -> Batch:
    """Stack the responses at some positions of some rows, padded on the right with token 0.

    No attention mask is made: a causal model never looks ahead, so what stands to the right of a sequence cannot
    change it, and neither ``own`` nor ``prompt`` ever marks padding.

    >>> row = Row((7, 8), (Response((5, 6, 9), (1, 0, 1)), Response((4,), (1,))))
    >>> batch = collate([row], positions=(0, 1))
    >>> batch["input_ids"]
    tensor([[7, 8, 5, 6, 9],
            [7, 8, 4, 0, 0]])
    >>> batch["own"].int()
    tensor([[0, 0, 1, 0, 1],
            [0, 0, 1, 0, 0]], dtype=torch.int32)
    >>> batch["prompt"].int()
    tensor([[0, 1, 0, 0, 0],
            [0, 1, 0, 0, 0]], dtype=torch.int32)
    """
    sequences = [(row.prompt, row.responses[position]) for position in positions for row in rows]
    width = max(len(prompt) + len(response.ids) for prompt, response in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    own = torch.zeros(len(sequences), width, dtype=torch.bool)
    marked = torch.zeros(len(sequences), width, dtype=torch.bool)
    for index, (prompt, response) in enumerate(sequences):
        start, end = len(prompt), len(prompt) + len(response.ids)
        input_ids[index, :end] = torch.tensor(prompt + response.ids)
        own[index, start:end] = torch.tensor(response.own, dtype=torch.bool)
        marked[index, 1:start] = True
    return Batch(input_ids=input_ids, own=own, prompt=marked)


def joint_pairs(pair_sets: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    """The union of several pair sets, in their order: what the baseline of joint training learns from.

    Ids get the set's name in front, since sets share prompts.
    """
    return [dataclasses.replace(pair, id=f"{name}/{pair.id}") for name, pairs in pair_sets.items() for pair in pairs]


def _check_thinking(example: Example, sample: Sample, thinking: bool) -> None:
    if sample.thinking != thinking:
        raise PrefdeltaError(
            f"example {example.id!r} was sampled with thinking {'on' if sample.thinking else 'off'}, but the student "
            f"is trained with thinking {'on' if thinking else 'off'}; set the same `thinking` for all models "
            f"(`prefdelta train --set student.thinking={'true' if sample.thinking else 'false'}`)."
        )
