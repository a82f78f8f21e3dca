"""How much a text repeats itself."""

from __future__ import annotations

_RUN = 4  # words


def repetition(text: str) -> float:
    """The share of a text's runs of four words that occurred in it before, in [0, 1]; 0 for shorter texts.

    Source: the measure "seq-rep-n" of unlikelihood training (arXiv 1908.04319), n = 4, over words.

    >>> repetition("the cat sat down the cat sat down")
    0.2
    """
    words = text.split()
    runs = [tuple(words[place : place + _RUN]) for place in range(len(words) - _RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
