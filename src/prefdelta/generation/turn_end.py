"""Where a model's turn ends: at the chat template's end of turn or, in a search conversation, at a protocol's tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefdelta.core.chat import decode, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TurnEnd:
    """Whether a turn is over: at the end of a turn, or when one of ``closings`` (``</search>``, say) is complete.

    Texts are looked for in what is decoded, since most tokenizers write a tag with several tokens, the last of which
    may hold more than the tag (``>`` and a line break, say). Such a token is kept whole, so that the ids of a span are
    exactly those that the model wrote.

    Args:
        tokenizer: the model's.
        stops: the ids of which each ends a turn.
        closings: tags that end a turn, and belong to it.
        ending: the ids of a text that ends a turn, where the chat template has no token for that.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[int],
        closings: Sequence[str] = (),
        ending: Sequence[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = frozenset(stops)
        self._closings = tuple(closings)
        self._endings = [decode(tokenizer, ending)] if len(ending) > 1 else []
        texts = [*self._closings, *self._endings]
        self._longest = max(map(len, texts), default=0)
        last = {text[-1] for text in texts}
        vocabulary = tokenizer.get_vocab() if last else {}
        self._closing = frozenset(number for token, number in vocabulary.items() if any(end in token for end in last))

    def stopped(self, written: Sequence[int]) -> bool:
        """Whether the model ended its turn itself."""
        return bool(written) and (written[-1] in self._stops or self._completed(written, self._endings))

    def closed(self, written: Sequence[int]) -> bool:
        """Whether the last token completed a closing tag."""
        return self._completed(written, self._closings)

    def said(self, written: Sequence[int]) -> list[int]:
        """The ids of a turn without those that end it."""
        if written and written[-1] in self._stops:
            return list(written[:-1])
        if not self._completed(written, self._endings):
            return list(written)
        return encode(self._tokenizer, decode(self._tokenizer, written).rpartition(self._endings[0])[0])

    def __call__(self, written: Sequence[int]) -> bool:
        """Whether the turn is over after ``written``, the ids of this turn."""
        return self.stopped(written) or self.closed(written)

    def _completed(self, written: Sequence[int], texts: Sequence[str]) -> bool:
        if not texts or not written or written[-1] not in self._closing:
            return False
        # Every token has at least one byte of the text, so this many tokens hold all of it.
        tail = decode(self._tokenizer, written[-self._longest :])
        return any(text in tail for text in texts)
