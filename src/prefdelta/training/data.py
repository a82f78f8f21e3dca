"""From preference pairs, triples and demonstrations to token rows."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from prefdelta.chat import completion_ids, prompt_ids
from prefdelta.errors import PrefdeltaError
from prefdelta.records import Example, Sample


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
    differ from the rejected one).
    ``truncated`` counts responses of kept rows that were cut.
    """

    rows: tuple[Row, ...]
    dropped: Mapping[str, int]
    truncated: int


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
    dropped = {"empty": 0, "identical": 0, "long_prompt": 0}
    truncated = 0
    for example in examples:
        for sample in example.responses:
            _check_thinking(example, sample, thinking)
        prompt = tuple(prompt_ids(tokenizer, example.prompt, thinking))
        room = max_length - len(prompt)
        if room <= 0:
            dropped["long_prompt"] += 1
            continue
        whole = [completion_ids(tokenizer, sample) for sample in example.responses]
        responses = tuple(Response(tuple(ids[:room]), tuple(own[:room])) for ids, own in whole)
        if not all(any(response.own) for response in responses):
            dropped["empty"] += 1
        elif responses[-1] in responses[:-1]:
            dropped["identical"] += 1
        else:
            rows.append(Row(prompt, responses))
            truncated += sum(len(ids) > room for ids, _ in whole)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise PrefdeltaError(
            f"none of {len(examples)} examples can be trained on ({reasons}); raise training.max_length "
            f"({max_length}) or look at the examples."
        )
    return Rows(tuple(rows), dropped, truncated)


def _check_thinking(example: Example, sample: Sample, thinking: bool) -> None:
    if sample.thinking != thinking:
        raise PrefdeltaError(
            f"example {example.id!r} was sampled with thinking {'on' if sample.thinking else 'off'}, but the student "
            f"is trained with thinking {'on' if thinking else 'off'}; set the same `thinking` for all models."
        )
