"""How answers are drawn, in which search environment, and which pairs of them are dropped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prefdelta.core.config import Config, Named


class Sampling(Config):
    """How answers are drawn, ``n`` to each question. ``max_new_tokens`` bounds one turn; temperature 0 is greedy."""

    n: int = Field(default=1, gt=0)
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=1024, gt=0)
    batch_size: int = Field(default=16, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _greedy_answers_are_all_the_same(self) -> Sampling:
        if self.n > 1 and self.temperature == 0:
            raise ValueError("n must be 1 where temperature is 0, since greedy answers are all the same")
        return self


class Search(Config):
    """The search environment: ``top_k`` passages of ``corpus`` per query, at most ``max_turns`` turns that may search.

    ``corpus`` is ``micro:corpus``, a ``.jsonl`` file of documents, a folder that ``prefdelta index`` made, or the URL
    of a server that speaks Search-R1's protocol; ``cache`` is a file that keeps such a server's answers.
    ``retriever`` is a registered way to search the corpus, by its name or with options; the corpus decides where it is
    left out. ``protocol`` decides prompt, tags and corrections, and the defaults of the other keys, which are filled in
    where the search begins (docs/search.md). A passage
    is cut after ``max_words`` words or ``passage_tokens`` tokens, all that is shown after a search after
    ``observation_tokens``, a turn after ``turn_tokens``, and the model reads the last ``window`` tokens.
    """

    corpus: str
    protocol: Named = Named(name="plain")
    retriever: Named | None = None
    top_k: int = Field(default=3, gt=0)
    max_turns: int = Field(default=5, gt=0)
    max_words: int | None = Field(default=None, gt=0)
    passage_tokens: int | None = Field(default=None, gt=0)
    observation_tokens: int | None = Field(default=None, gt=0)
    turn_tokens: int | None = Field(default=None, gt=0)
    window: int | None = Field(default=None, gt=0)
    cache: str | None = None


class Filters(Config):
    """Which pairs are dropped. Identical answers always are.

    ``format`` must hold of the chosen answer only (PDA section 5.1): ``answer-tags`` asks for exactly one well-formed
    ``<answer>`` at the end and well-formed searches before it; ``finished`` asks that the model ended its turn.
    ``duplicates`` drops questions that were asked before: the same text (``exact``), or one whose runs of three words
    have a Jaccard similarity of ``near_similarity`` or more (``near``). ``identical_within`` drops pairs that do not
    differ within so many tokens of the student, prompt included. ``max_length_ratio`` bounds how many times longer
    one answer may be than the other, in characters, and ``balance_lengths`` drops pairs until chosen answers are
    longer as often as shorter. ``decontaminate`` drops questions that share so many words in a row with one of the
    recipe's evaluation sets.
    """

    format: Literal["answer-tags", "finished"] | None = None
    identical_within: int | None = Field(default=None, gt=0)
    max_length_ratio: float | None = Field(default=None, ge=1)
    duplicates: Literal["exact", "near"] | None = None
    near_similarity: float = Field(default=0.8, gt=0, le=1)
    decontaminate: int | None = Field(default=None, gt=0)
    balance_lengths: bool = False
