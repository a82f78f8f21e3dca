"""The search conversation: what ends a model's turn, how a search is read, and how its result is written.

The protocol is Search-R1's (Jin et al. 2025): the model writes ``<search> query </search>``, the environment answers
with ``<information> ... </information>``, and the model goes on until it ends its turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from prefdelta.chat import decode
from prefdelta.records import Document

SEARCH = "<search>"
SEARCH_END = "</search>"


class TurnEnd:
    """Whether a turn is over: at an end-of-turn token or, if searching, when ``</search>`` is complete.

    The tag is looked for in the text, since most tokenizers write it with several tokens, the last of which may hold
    more than the tag (``>`` and a line break, say). Such a token is kept whole, so that the ids of a span are exactly
    those that the model wrote.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int], *, searching: bool) -> None:
        self._tokenizer = tokenizer
        self._stops = frozenset(stops)
        self._closing: frozenset[int] = frozenset()
        if searching:
            vocabulary = tokenizer.get_vocab()
            self._closing = frozenset(number for token, number in vocabulary.items() if SEARCH_END[-1] in token)

    def stopped(self, written: Sequence[int]) -> bool:
        """Whether the model ended its turn itself."""
        return bool(written) and written[-1] in self._stops

    def searched(self, written: Sequence[int]) -> bool:
        """Whether the last token completed a ``</search>``."""
        if not written or written[-1] not in self._closing:
            return False
        # Every token has at least one byte of the tag, so this many tokens hold all of it.
        return SEARCH_END in decode(self._tokenizer, written[-len(SEARCH_END) :])

    def __call__(self, written: Sequence[int]) -> bool:
        """Whether the turn is over after ``written``, the ids of this turn."""
        return self.stopped(written) or self.searched(written)


def query(turn: str) -> str:
    """The query of a turn that ended with ``</search>``: what stands after its last ``<search>``, or nothing."""
    before = turn.rpartition(SEARCH_END)[0]
    _, opened, asked = before.rpartition(SEARCH)
    return asked.strip() if opened else ""


def observation(found: Sequence[Document], top_k: int) -> str:
    """What the model is shown after a search.

    For ``top_k`` 1 it is ``<information>TEXT</information>`` and nothing around. For more it is Search-R1's: numbered
    ``Doc 1(Title: ...) ...`` lines, with blank lines around the tags. Nothing found leaves the tags empty.
    """
    if top_k == 1:
        return f"<information>{''.join(document.text for document in found)}</information>"
    lines = [f"Doc {number}(Title: {document.title}) {document.text}" for number, document in enumerate(found, 1)]
    return "\n\n<information>{}</information>\n\n".format("\n".join(lines))
