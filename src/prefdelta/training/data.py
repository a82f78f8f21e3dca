"""From preference pairs to token rows."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from prefdelta.chat import completion_ids, prompt_ids
from prefdelta.errors import PrefdeltaError
from prefdelta.records import Pair, Sample


@dataclass(frozen=True)
class Response:
    """Token ids of one response, and for each whether the model wrote it (1) or read it (0)."""

    ids: tuple[int, ...]
    own: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One pair as tokens; ``responses`` are chosen, rejected. A sequence is ``prompt`` followed by one response."""

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

    ``dropped`` counts pairs by reason: ``long_prompt`` (the prompt alone fills ``max_length``), ``empty`` (a response
    without a token of the model's own), ``identical`` (no difference is left within ``max_length``).
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


def make_rows(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, *, thinking: bool, max_length: int) -> Rows:
    """Tokenise pairs, cut responses at the end to ``max_length`` tokens in all, and drop what teaches nothing.

    Raises:
        PrefdeltaError: a sample's thinking mode is not the student's, or no pair is left.
    """
    rows: list[Row] = []
    dropped = {"empty": 0, "identical": 0, "long_prompt": 0}
    truncated = 0
    for pair in pairs:
        for sample in (pair.chosen, pair.rejected):
            _check_thinking(pair, sample, thinking)
        prompt = tuple(prompt_ids(tokenizer, pair.prompt, thinking))
        room = max_length - len(prompt)
        if room <= 0:
            dropped["long_prompt"] += 1
            continue
        whole = [completion_ids(tokenizer, sample) for sample in (pair.chosen, pair.rejected)]
        chosen, rejected = (Response(tuple(ids[:room]), tuple(own[:room])) for ids, own in whole)
        if not any(chosen.own) or not any(rejected.own):
            dropped["empty"] += 1
        elif chosen == rejected:
            dropped["identical"] += 1
        else:
            rows.append(Row(prompt, (chosen, rejected)))
            truncated += sum(len(ids) > room for ids, _ in whole)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise PrefdeltaError(
            f"none of {len(pairs)} pairs can be trained on ({reasons}); raise training.max_length ({max_length}) "
            "or look at the pairs."
        )
    return Rows(tuple(rows), dropped, truncated)


def _check_thinking(pair: Pair, sample: Sample, thinking: bool) -> None:
    if sample.thinking != thinking:
        raise PrefdeltaError(
            f"pair {pair.id!r} was sampled with thinking {'on' if sample.thinking else 'off'}, but the student is "
            f"trained with thinking {'on' if thinking else 'off'}; set the same `thinking` for all models of a delta."
        )
