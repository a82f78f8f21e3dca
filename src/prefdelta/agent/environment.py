"""The environment of a search conversation: a protocol, something to search, and the limits on what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from prefdelta.agent.protocols import Action, Protocol, protocol_of, resolved
from prefdelta.agent.retrieval import Retriever, open_retriever
from prefdelta.core.chat import decode, encode
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document, Item
from prefdelta.recipe import Search

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HALF = "�"  # what a tokenizer writes for a character of which it has only some bytes


@dataclass(frozen=True)
class Environment:
    """What a model searches, and how; the same object serves sampling for training and evaluation.

    Attributes:
        retriever: answers queries; it returns ``settings.top_k`` passages at most.
        settings: the recipe's ``search``; keys that it leaves out take the protocol's defaults.
    """

    retriever: Retriever
    settings: Search

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", resolved(self.settings))

    @classmethod
    def open(cls, search: Search) -> Environment:
        """The environment that a recipe's ``search`` describes.

        Raises:
            PrefdeltaError: a name or option is unknown, or the corpus or index cannot be read.
        """
        settings = resolved(search)
        return cls(open_retriever(settings), settings)

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol that the settings name."""
        return protocol_of(self.settings.protocol)

    def dressed(self, items: Sequence[Item]) -> list[Item]:
        """The items, asked in the protocol's words."""
        return [self.protocol.dressed(item) for item in items]

    def look_up(self, queries: Sequence[str], tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
        """What the model is shown for each query, in order, within the limits on passages and observations.

        Raises:
            PrefdeltaError: there are limits in tokens, and no tokenizer.
        """
        if tokenizer is None and (self.settings.passage_tokens or self.settings.observation_tokens):
            raise PrefdeltaError("the search settings cut passages by tokens; name the server's `tokenizer`.")
        limit = self.settings.passage_tokens
        shown = []
        for found in self.retriever.search_many(queries):
            passages = [_passage(document, tokenizer, limit) for document in found] if limit else found
            text = self.protocol.observe(passages, self.settings.top_k)
            shown.append(shortened(text, tokenizer, self.settings.observation_tokens))
        return shown

    def reactions(self, actions: Sequence[Action | None], tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
        """What the model is shown after each turn: what it searched for, or a correction where it asked for nothing."""
        queries = [action.query for action in actions if action and action.kind == "search"]
        found = iter(self.look_up(queries, tokenizer))
        return [next(found) if action and action.kind == "search" else self.protocol.correction for action in actions]


def shortened(text: str, tokenizer: PreTrainedTokenizerBase | None, limit: int | None) -> str:
    """A text's first ``limit`` tokens; a character that the cut would split is left out."""
    if limit is None or tokenizer is None or len(text.encode()) <= limit:  # a token has at least one byte
        return text
    ids = encode(tokenizer, text)
    return text if len(ids) <= limit else decode(tokenizer, ids[:limit]).rstrip(_HALF)


def _passage(document: Document, tokenizer: PreTrainedTokenizerBase | None, limit: int) -> Document:
    return replace(document, text=shortened(document.text, tokenizer, limit))
