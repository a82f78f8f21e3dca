"""How answers are drawn, in which search environment, and which pairs of them are dropped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from prefdelta.core.config import Config, Named
from prefdelta.core.reference import refuse_secrets


class Sampling(Config):
    """How answers are drawn, ``n`` to each question. ``max_new_tokens`` bounds one turn; temperature 0 is greedy."""

    n: int = Field(default=1, gt=0, description="Answers to each question, each with random numbers of its own.")
    temperature: float = Field(default=0.7, ge=0, description="Divides the logits; 0 is greedy.")
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Nucleus sampling: only the likeliest tokens with this probability together; 1 switches it off.",
    )
    top_k: int = Field(default=0, ge=0, description="Only the k likeliest tokens; 0 switches it off.")
    max_new_tokens: int = Field(
        default=1024, gt=0, description="The most tokens of one turn; with `search` an answer has several turns."
    )
    batch_size: int = Field(default=16, gt=0, description="Answers drawn at once; changes the speed.")
    seed: int = Field(
        default=0,
        description=(
            "Each answer has a random stream of its own, made from this seed, the item's id and the answer's number."
        ),
    )

    @model_validator(mode="after")
    def _greedy_answers_are_all_the_same(self) -> Sampling:
        if self.n > 1 and self.temperature == 0:
            raise ValueError("n must be 1 where temperature is 0, since greedy answers are all the same")
        return self


def refuse_several(key: str, sampling: Sampling | None) -> None:
    """Raise ValueError where items of benchmarks would be answered more than once: no score is made of the others."""
    if sampling is not None and sampling.n != 1:
        raise ValueError(f"{key} must be 1: an item of a benchmark is answered once per seed")


def _without_secrets(corpus: str) -> str:
    return refuse_secrets(corpus) if "://" in corpus else corpus


Corpus = Annotated[str, AfterValidator(_without_secrets)]
"""What is searched; as a URL, without a password, since messages and manifests show it."""


class Search(Config):
    """The search environment: ``top_k`` passages of ``corpus`` per query, at most ``max_turns`` turns that may search.

    ``protocol`` decides prompt, tags and corrections, and the defaults of the other keys, which are filled in where the
    search begins (docs/search.md).
    """

    corpus: Corpus = Field(
        description=(
            '`micro:corpus`; a `.jsonl` file of passages, `{"id": "1", "title": "Paris", "text": "…"}`; a '
            "folder that `prefdelta index` made; or the URL of a search server."
        )
    )
    protocol: Named = Field(
        default=Named(name="plain"),
        description="How a model searches, and the defaults of the keys below: `plain`, `search_r1` or `pda`.",
    )
    retriever: Named | None = Field(
        default=None,
        description=(
            "How the corpus is searched: `bm25`, `index`, `server` or one of another package; left out, the "
            "corpus decides."
        ),
    )
    top_k: int = Field(default=3, gt=0, description="Passages shown per search.")
    max_turns: int = Field(default=5, gt=0, description="Turns that may search; the last one after them may not.")
    max_words: int | None = Field(
        default=None, gt=0, description="A passage is cut after so many words; left out, the protocol decides."
    )
    passage_tokens: int | None = Field(
        default=None, gt=0, description="A passage is cut after so many tokens; left out, the protocol decides."
    )
    observation_tokens: int | None = Field(
        default=None,
        gt=0,
        description="All that is shown after a search is cut after so many tokens; left out, the protocol decides.",
    )
    turn_tokens: int | None = Field(
        default=None,
        gt=0,
        description=(
            "A turn is cut after so many tokens, if `max_new_tokens` allows as many; left out, the protocol decides."
        ),
    )
    window: int | None = Field(
        default=None,
        gt=0,
        description=(
            "Of a longer conversation the model reads the last so many tokens; left out, the protocol decides."
        ),
    )
    cache: str | None = Field(default=None, description="A file that keeps a search server's answers.")


class Filters(Config):
    """Which pairs are dropped. Identical answers always are."""

    format: Literal["answer-tags", "finished"] | None = Field(
        default=None,
        description=(
            "Asked of the chosen answer only: exactly one well-formed `<answer>…</answer>`, at the end, and "
            "well-formed searches before it (`answer-tags`), or that the model ended its turn itself (`finished`)."
        ),
    )
    identical_within: int | None = Field(
        default=None,
        gt=0,
        description="Drop pairs that do not differ within so many tokens of the student, prompt included.",
    )
    max_length_ratio: float | None = Field(
        default=None,
        ge=1,
        description="Drop pairs in which one answer has more than so many times the characters of the other.",
    )
    duplicates: Literal["exact", "near"] | None = Field(
        default=None,
        description="Drop questions that were asked before: the same text (`exact`) or nearly the same (`near`).",
    )
    near_similarity: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="The Jaccard similarity of two questions' runs of three words that makes them near duplicates.",
    )
    decontaminate: int | None = Field(
        default=None,
        gt=0,
        description="Drop questions that share so many words in a row with a question of one of the benchmarks.",
    )
    balance_lengths: bool = Field(
        default=False, description="Drop pairs until chosen answers are longer as often as shorter, by alike amounts."
    )
