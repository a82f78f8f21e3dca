"""Where a model's turn ends: at an end-of-turn token or, in a search conversation, at one of the protocol's tags."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from prefdelta.chat import decode


class TurnEnd:
    """Whether a turn is over: at an end-of-turn token, or when one of ``closings`` (``</search>``, say) is complete.

    A tag is looked for in the text, since most tokenizers write it with several tokens, the last of which may hold
    more than the tag (``>`` and a line break, say). Such a token is kept whole, so that the ids of a span are exactly
    those that the model wrote.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int], closings: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = frozenset(stops)
        self._closings = tuple(closings)
        self._longest = max(map(len, closings), default=0)
        ends = {tag[-1] for tag in closings}
        vocabulary = tokenizer.get_vocab() if ends else {}
        self._closing = frozenset(number for token, number in vocabulary.items() if any(end in token for end in ends))

    def stopped(self, written: Sequence[int]) -> bool:
        """Whether the model ended its turn itself."""
        return bool(written) and written[-1] in self._stops

    def closed(self, written: Sequence[int]) -> bool:
        """Whether the last token completed a closing tag."""
        if not written or written[-1] not in self._closing:
            return False
        # Every token has at least one byte of the tag, so this many tokens hold all of it.
        tail = decode(self._tokenizer, written[-self._longest :])
        return any(tag in tail for tag in self._closings)

    def __call__(self, written: Sequence[int]) -> bool:
        """Whether the turn is over after ``written``, the ids of this turn."""
        return self.stopped(written) or self.closed(written)
