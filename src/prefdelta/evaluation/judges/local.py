"""A judge that is loaded here, by transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch

from prefdelta.core.chat import prompt_ids
from prefdelta.core.model_files import fingerprint
from prefdelta.core.models import LoadedModel, context_of, load
from prefdelta.core.records import Item
from prefdelta.evaluation.judges.judge import Arrived, Ask
from prefdelta.generation.completion import Completion, Refusal, Reply
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import Request
from prefdelta.recipe import ModelRef, Sampling

_BATCH = 8


class LocalJudge:
    """A causal language model with a chat template. With temperature 0 its replies are reproducible.

    Raises:
        PrefdeltaError: the model cannot be loaded, or has no chat template.
    """

    def __init__(self, ref: ModelRef) -> None:
        self._loaded: LoadedModel = load(ref)
        self.name = f"{ref.path}#{fingerprint(ref)[:8]}"
        self._room = context_of(self._loaded.model.config)

    @property
    def fields(self) -> Mapping[str, str]:
        """Nothing is left out."""
        return {}

    def ask(self, asks: Sequence[Ask], arrived: Arrived) -> list[Reply]:
        """Answer all; one that does not fit the model's context is refused."""
        replies: list[Reply] = [Refusal("not asked")] * len(asks)

        def took(place: int, reply: Reply) -> None:
            replies[place] = reply
            arrived(place, reply)

        fitting = []
        for place, ask in enumerate(asks):
            length = len(prompt_ids(self._loaded.tokenizer, ask.messages, self._loaded.thinking))
            if length + ask.max_tokens > self._room:
                took(place, Refusal(f"too long: {length} tokens and room for {ask.max_tokens} exceed {self._room}"))
            else:
                fitting.append((place, ask))
        fitting.sort(key=_style)
        for (likeliest, max_tokens, temperature), alike in groupby(fitting, key=_style):
            if likeliest:
                for place, ask in alike:
                    took(place, self._first_token(ask))
            else:
                self._write(list(alike), max_tokens, temperature, took)
        return replies

    def _write(self, placed: Sequence[tuple[int, Ask]], max_tokens: int, temperature: float, took: Arrived) -> None:
        sampling = Sampling(max_new_tokens=max_tokens, temperature=temperature, batch_size=_BATCH)
        requests = [
            Request(Item(str(number), "judge", ask.messages), seed=number) for number, (_, ask) in enumerate(placed)
        ]
        for answers in TransformersSampler(self._loaded, sampling).stream(requests):
            for number, sample in answers:
                took(placed[number][0], Completion(sample.own_text, sample.finish, sample.tokens))

    @torch.inference_mode()
    def _first_token(self, ask: Ask) -> Completion:
        ids = prompt_ids(self._loaded.tokenizer, ask.messages, self._loaded.thinking)
        logits = self._loaded.model(input_ids=torch.tensor([ids], device=self._loaded.model.device)).logits[0, -1]
        values, tokens = torch.log_softmax(logits.double(), dim=-1).topk(min(ask.likeliest, logits.numel()))
        likely: dict[str, float] = {}
        for value, token in zip(values.tolist(), tokens.tolist(), strict=True):
            likely.setdefault(self._loaded.tokenizer.decode([token]), value)
        return Completion(next(iter(likely)), "length", 1, logprobs=(likely,))


def _style(placed: tuple[int, Ask]) -> tuple[int, int, float]:
    return placed[1].likeliest, placed[1].max_tokens, placed[1].temperature
