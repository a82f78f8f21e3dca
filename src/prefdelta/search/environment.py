"""The environment of a search conversation: a protocol, something to search, and the limits on what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from prefdelta.chat import decode, encode
from prefdelta.errors import PrefdeltaError
from prefdelta.recipe import Search
from prefdelta.records import Document, Item
from prefdelta.retrieval import Retriever
from prefdelta.search.protocols import PROTOCOLS, Action, Protocol

_HALF = "�"  # what a tokenizer writes for a character of which it has only some bytes


@dataclass(frozen=True)
class Environment:
    """What a model searches, and how; the same object serves sampling for training and evaluation.

    Attributes:
        retriever: answers queries; it returns ``settings.top_k`` passages at most.
        settings: the recipe's ``search``.
    """

    retriever: Retriever
    settings: Search

    @property
    def protocol(self) -> Protocol:
        """The protocol that the settings name."""
        return PROTOCOLS[self.settings.protocol]

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
