"""How answers are drawn, in which search environment, and which pairs of them are dropped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.recipe.config import Config


class Sampling(Config):
    """How answers are drawn. ``max_new_tokens`` bounds one turn; temperature 0 is greedy."""

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=1024, gt=0)
    batch_size: int = Field(default=16, gt=0)
    seed: int = 0


class Search(Config):
    """The search environment: ``top_k`` passages of ``corpus`` per query, at most ``max_turns`` queries.

    ``corpus`` is ``micro:corpus`` or a ``.jsonl`` file of documents. A passage is cut after ``max_words`` words.
    """

    corpus: str
    top_k: int = Field(default=3, gt=0)
    max_turns: int = Field(default=5, gt=0)
    max_words: int = Field(default=350, gt=0)


class Filters(Config):
    """Which pairs are dropped. Identical answers always are.

    ``format`` must hold of the chosen answer only (PDA section 5.1): ``answer-tags`` asks for exactly one well-formed
    ``<answer>`` at the end and well-formed searches before it; ``finished`` asks that the model ended its turn.
    """

    format: Literal["answer-tags", "finished"] | None = None
